"""A client for handwritten-digit models on TensorFlow Serving, without TensorFlow.

    from client import DigitClient

    with DigitClient("grpc://localhost:8500") as digits:
        answer = digits.classify(images)

Needs numpy, grpcio, protobuf and urllib3; pillow only to classify PIL images.
"""

from client.digit_client import DigitClient
from client.errors import (
    AccessDenied,
    BadResponse,
    CallContext,
    CallError,
    DeadlineExceeded,
    DigitsError,
    InvalidInput,
    NotFound,
    Overloaded,
    Rejected,
    ServerFailed,
    Unreachable,
)
from client.results import Classification, Metadata, Signature, State, TensorSpec, VersionStatus

__all__ = [
    "AccessDenied",
    "BadResponse",
    "CallContext",
    "CallError",
    "Classification",
    "DeadlineExceeded",
    "DigitClient",
    "DigitsError",
    "InvalidInput",
    "Metadata",
    "NotFound",
    "Overloaded",
    "Rejected",
    "ServerFailed",
    "Signature",
    "State",
    "TensorSpec",
    "Unreachable",
    "VersionStatus",
]
