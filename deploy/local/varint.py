"""Base-128 numbers, as protobuf and TensorFlow's string tensors have them."""


def write(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit tells that more follow."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def read(data: bytes, position: int) -> tuple[int, int]:
    """The number that begins at a position, and where it ends.

    Raises:
        IndexError: the data end before.
    """
    number = shift = 0
    while data[position] & 0x80:
        number |= (data[position] & 0x7F) << shift
        shift, position = shift + 7, position + 1
    return number | data[position] << shift, position + 1
