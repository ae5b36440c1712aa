"""Clients for TensorFlow Serving, without TensorFlow: for any model, and for handwritten digits.

    from tfserving_client import DigitClient

    with DigitClient("grpc://localhost:8500") as digits:
        answer = digits.classify(images)

Needs numpy, grpcio, protobuf and h11; pillow only to classify PIL images.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfserving_client.call.caller import Attempt
    from tfserving_client.call.policy import Policy
    from tfserving_client.call.tls import Tls
    from tfserving_client.digits.async_client import AsyncDigitClient
    from tfserving_client.digits.classification import Classification, Digit
    from tfserving_client.digits.client import DigitClient
    from tfserving_client.errors import (
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
        ServingError,
        Unreachable,
    )
    from tfserving_client.grpc.examples import serialize_example
    from tfserving_client.results import (
        Label,
        Metadata,
        Prediction,
        Signature,
        State,
        TensorSpec,
        VersionStatus,
    )
    from tfserving_client.serving.async_client import AsyncServingClient
    from tfserving_client.serving.client import ServingClient

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AsyncDigitClient",
    "AsyncServingClient",
    "Attempt",
    "BadResponse",
    "CallContext",
    "CallError",
    "Classification",
    "DeadlineExceeded",
    "Digit",
    "DigitClient",
    "DigitsError",
    "InvalidInput",
    "Label",
    "Metadata",
    "NotFound",
    "Overloaded",
    "Policy",
    "Prediction",
    "Rejected",
    "ServerFailed",
    "ServingClient",
    "ServingError",
    "Signature",
    "State",
    "TensorSpec",
    "Tls",
    "Unreachable",
    "VersionStatus",
    "serialize_example",
]

# A module is imported when one of its names is first used. So `--help`, an early Ctrl-C and code
# that only catches errors do not wait for numpy, and threads do not wait for asyncio.
_MODULES = {
    "call.caller": "Attempt",
    "call.policy": "Policy",
    "call.tls": "Tls",
    "digits.async_client": "AsyncDigitClient",
    "digits.classification": "Classification Digit",
    "digits.client": "DigitClient",
    "grpc.examples": "serialize_example",
    "errors": "AccessDenied BadResponse CallContext CallError DeadlineExceeded DigitsError "
    "InvalidInput NotFound Overloaded Rejected ServerFailed ServingError Unreachable",
    "results": "Label Metadata Prediction Signature State TensorSpec VersionStatus",
    "serving.async_client": "AsyncServingClient",
    "serving.client": "ServingClient",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names.split():
                return getattr(importlib.import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __all__
