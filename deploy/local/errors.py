"""Canonical status codes, the error that carries one, and what HTTP makes of it."""

import enum
import errno
import os


class Code(enum.IntEnum):
    """The canonical codes; gRPC and TensorFlow use the same numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

_ERRNO_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.ENOTDIR: Code.FAILED_PRECONDITION,
    errno.EISDIR: Code.FAILED_PRECONDITION,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EINVAL: Code.INVALID_ARGUMENT,
}


class ServingError(Exception):
    """What a caller is told: a canonical code and the server's text.

    Attributes:
        code: the canonical code, never OK.
        message: the text, whole; gRPC cuts it, REST does not. TensorFlow may quote any bytes in it:
            what is not UTF-8 stands as lone surrogates (PEP 383), which REST sends as the bytes
            they were.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid(message: str) -> ServingError:
    """An INVALID_ARGUMENT with this text."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def from_quoted(text: bytes) -> ServingError:
    """An error of TensorFlow whose text quotes bytes that are not UTF-8.

    Python's TensorFlow loses the code with such a text. Kernels quote what they were fed and cannot
    take, and that is INVALID_ARGUMENT, or the name of a file that the system did not give them.
    """
    message = text.decode("utf-8", "surrogateescape")
    reasons = ((os.strerror(number), code) for number, code in _ERRNO_CODES.items())
    code = next((code for why, code in reasons if f"; {why}" in message), Code.INVALID_ARGUMENT)
    return ServingError(code, message)


def as_unicode(text: str) -> str:
    """For what takes no other text, protobuf's strings among it: other bytes become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def from_os(error: OSError) -> ServingError:
    """A file system error in TensorFlow's words: `<path>; <reason>`."""
    code = _ERRNO_CODES.get(error.errno or 0, Code.UNKNOWN)
    return ServingError(code, f"{error.filename}; {error.strerror}")
