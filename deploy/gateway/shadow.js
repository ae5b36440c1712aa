// Keeps requests for `python -m deploy compare --live`: those to one model that predict, classify or
// regress, each as a file of one line of JSON. No header is kept, so no key.
import fs from 'fs';
import protobuf from 'protobuf.js';

const LARGEST = 1048576;  // bytes of a request
const REST = /:(predict|classify|regress)$/;
const GRPC = /\.PredictionService\/(Predict|Classify|Regress)$/;

// nginx makes this call in addition to the caller's, which does not depend on it.
function keep(r) {
    try {
        const path = r.variables.request_uri;
        if ((REST.test(path) || GRPC.test(path)) && r.requestBuffer.length <= LARGEST) {
            const isGrpc = GRPC.test(path);
            // One message over gRPC: a byte, four of length, the request.
            const body = isGrpc ? r.requestBuffer.subarray(5) : r.requestBuffer;
            if (!isGrpc || model(body) == r.variables.shadow_model) {
                write(r, () => `${JSON.stringify({ path, body: body.toString('base64') })}\n`);
            }
        }
    } catch (e) {
        r.warn(`not kept: ${e}`);
    }
    r.return(204);
}

// The name in ModelSpec, which every library writes first.
function model(request) {
    const spec = protobuf.fields(request.subarray(0, 4096), 1)[0];
    return protobuf.fields(spec, 1)[0].toString();
}

// At most `shadow_rate` a second: of each such part of a second the first request is kept.
function write(r, line) {
    const slot = Math.floor(Date.now() * r.variables.shadow_rate / 1000);
    const file = `${r.variables.shadow_folder}/${slot}`;
    try {
        fs.writeFileSync(file, '', { flag: 'wx' });
    } catch (e) {
        // Another came first; or the sample has ended, which a worker from before a reload sees late.
        if (e.code == 'EEXIST' || e.code == 'ENOENT') {
            return;
        }
        throw e;
    }
    try {
        fs.writeFileSync(file, line());
    } catch (e) {
        fs.writeFileSync(file, '');  // the folder is full: keep no incomplete request
        throw e;
    }
}

export default { keep };
