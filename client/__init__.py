"""A client for handwritten-digit models on TensorFlow Serving, without TensorFlow.

    from client import DigitClient

    with DigitClient("grpc://localhost:8500") as digits:
        answer = digits.classify(images)

Needs numpy, grpcio, protobuf and h11; pillow only to classify PIL images.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.async_digit_client import AsyncDigitClient
    from client.calling import Attempt
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
    from client.policy import Policy
    from client.results import Classification, Metadata, Signature, State, TensorSpec, VersionStatus
    from client.tls import Tls

__all__ = [
    "AccessDenied",
    "AsyncDigitClient",
    "Attempt",
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
    "Policy",
    "Rejected",
    "ServerFailed",
    "Signature",
    "State",
    "TensorSpec",
    "Tls",
    "Unreachable",
    "VersionStatus",
]

# Modules are imported when a name of theirs is asked for: neither --help, nor Ctrl-C in a command's
# first moments, nor who only catches errors waits for numpy, and nobody without a loop for asyncio.
_MODULES = {
    "async_digit_client": "AsyncDigitClient",
    "calling": "Attempt",
    "digit_client": "DigitClient",
    "errors": "AccessDenied BadResponse CallContext CallError DeadlineExceeded DigitsError "
    "InvalidInput NotFound Overloaded Rejected ServerFailed Unreachable",
    "policy": "Policy",
    "results": "Classification Metadata Signature State TensorSpec VersionStatus",
    "tls": "Tls",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names.split():
                return getattr(importlib.import_module(f"client.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __all__
