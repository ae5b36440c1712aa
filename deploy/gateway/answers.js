// Samples answers for the log: each row's most probable class and its probability, "7:0.98 3:0.55",
// and over gRPC, where the path does not name it, the model that answered. Only the gateway can do
// this: the server neither logs nor counts answers.
import protobuf from 'protobuf.js';

const LARGEST = 65536;  // bytes of an answer that are kept
const ROWS = 100;  // of one answer
const CLASSES = 32;  // an output with more is not logged
const NAMES = ['probabilities', 'scores'];
const fields = protobuf.fields;
const parts = [];
let size = 0;

function look(r, data, flags) {
    r.sendBuffer(data, flags);
    if (!r.variables.sampled || r.status != 200 || size > LARGEST) {
        r.done();
        return;
    }
    parts.push(data);
    size += data.length;
    if (!flags.last) {
        return;
    }
    try {
        const body = Buffer.concat(parts);
        // The type of the request; a REST caller may omit it.
        const type = r.variables.content_type || '';
        const isGrpc = type.startsWith('application/grpc');
        const rows = isGrpc ? grpc(body) : rest(body);
        if (isGrpc) {
            r.variables.answering = fields(fields(body.subarray(5), 2)[0], 1)[0].toString();
        }
        r.variables.answers = rows.slice(0, ROWS).map(best).join(' ');
    } catch (e) {
        // Not a prediction, or a model with other outputs.
    }
}

function best(row) {
    let most = 0;
    for (let i = 1; i < row.length; i++) {
        most = row[i] > row[most] ? i : most;
    }
    return `${most}:${row[most].toFixed(3)}`;
}

function checked(rows) {
    return rows.filter((row) => row.length > 1 && row.length <= CLASSES);
}

// {"predictions": [{"probabilities": […], …}, …]}, [[…], …], or {"outputs": {"probabilities": [[…], …]}}.
function rest(body) {
    const answer = JSON.parse(body.toString());
    const named = (each) => each[NAMES.find((name) => name in each)];
    if (answer.outputs) {
        return checked(Array.isArray(answer.outputs) ? answer.outputs : named(answer.outputs));
    }
    return checked(answer.predictions.map((each) => Array.isArray(each) ? each : named(each)));
}

// One message: a byte, four of length, PredictResponse.
function grpc(body) {
    const outputs = fields(body.subarray(5), 1);
    const output = outputs.find((each) => NAMES.includes(fields(each, 1)[0].toString()));
    return output ? tensor(fields(output, 2)[0]) : [];
}

// The rows of a TensorProto of floats: tensor_shape 2, tensor_content 4, float_val 5.
function tensor(message) {
    const sizes = fields(fields(message, 2)[0], 2).map((dim) => fields(dim, 1)[0]);
    const values = fields(message, 4).concat(fields(message, 5)).find((value) => value.length);
    const width = sizes[1];
    const rows = [];
    for (let at = 0; sizes.length == 2 && at < Math.min(sizes[0], ROWS) * width * 4; at += width * 4) {
        const row = [];
        for (let i = 0; i < width; i++) {
            row.push(values.readFloatLE(at + i * 4));
        }
        rows.push(row);
    }
    return checked(rows);
}

export default { look };
