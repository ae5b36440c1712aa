// The values of a field in a protobuf message: numbers, or the bytes of a value with a length.
function fields(message, number) {
    const found = [];
    let at = 0;
    const varint = () => {
        let value = 0;
        let shift = 1;
        let byte;
        do {
            byte = message[at++];
            value += (byte & 127) * shift;
            shift *= 128;
        } while (byte > 127);
        return value;
    };
    while (at < message.length) {
        const tag = varint();
        const type = tag & 7;
        let value;
        if (type == 0) {
            value = varint();
        } else {
            const length = type == 2 ? varint() : type == 5 ? 4 : 8;
            value = message.subarray(at, at + length);
            at += length;
        }
        if (tag >> 3 == number) {
            found.push(value);
        }
    }
    return found;
}

export default { fields };
