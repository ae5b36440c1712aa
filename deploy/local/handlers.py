"""What the server answers, whichever way it was asked.

Each RPC is a method from request message to response message. `predict` below them works
on arrays and serves the gRPC face, the REST face and warm-up alike.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from deploy.local import tensors
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.manager import ModelManager
from deploy.local.servable import Servable
from deploy.local.tensors import Array

DEFAULT_SIGNATURE = "serving_default"
SIGNATURE_DEF = "signature_def"
_METHODS = tuple(f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))


class Handlers:
    """The RPCs over a manager's models.

    Args:
        models: where loaded versions come from.
        check_method: refuse signatures whose method name is none of the three known.
        as_content: answer Predict with tensor_content instead of typed fields.
    """

    def __init__(
        self, models: ModelManager, *, check_method: bool = False, as_content: bool = False
    ) -> None:
        self.models = models
        self.check_method = check_method
        self._as_content = as_content

    def predict(
        self, request: predict_pb2.PredictRequest, timeout_ms: int = 0
    ) -> predict_pb2.PredictResponse:
        """Predict; `timeout_ms` bounds the run, 0 does not.

        Raises:
            ServingError: by the rules of PredictionService.
        """
        spec = _spec(request)
        with self.models.borrow(spec) as servable:
            outputs = predict(
                servable,
                spec.signature_name,
                request.inputs,
                tensors.decode,
                request.output_filter,
                timeout_ms=timeout_ms,
                check_method=self.check_method,
            )
            version = servable.version
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = version
        response.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
        for alias, array in outputs.items():
            tensors.encode(array, response.outputs[alias], as_content=self._as_content)
        return response

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, _timeout_ms: int = 0
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """GetModelMetadata: all signatures of one loaded version.

        Raises:
            ServingError: no spec, no or another field than signature_def, nothing loaded.
        """
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.models.borrow(spec) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest, _timeout_ms: int = 0
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """GetModelStatus: every version ever wanted, or the one asked for; labels are ignored.

        Raises:
            ServingError: no spec, or a model or version never wanted.
        """
        spec = _spec(request)
        states = self.models.states(spec.name)
        what = "any versions"
        if spec.HasField("version"):
            states = [row for row in states if row[0] == spec.version.value]
            what = f"version {spec.version.value}"
        if not states:
            raise ServingError(Code.NOT_FOUND, f"Could not find {what} of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, error in states:
            entry = response.model_version_status.add(version=number, state=int(state))
            entry.status.SetInParent()
            if error:
                entry.status.error_code = int(error.code)
                entry.status.error_message = error.message
        return response


def _spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _names(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def as_given(array: Array, _name: str) -> Array:
    """For callers of `predict` whose inputs are arrays already."""
    return array


def predict(
    servable: Servable,
    signature_name: str,
    inputs: Mapping[str, Any],
    decode: Callable[[Any, str], Array],
    output_filter: Sequence[str] = (),
    *,
    timeout_ms: int = 0,
    check_method: bool = False,
) -> dict[str, Array]:
    """Run one signature.

    Args:
        servable: the version to run.
        signature_name: the signature; empty means `serving_default`.
        inputs: tensors by alias, in a form that `decode` turns into arrays.
        decode: called with a tensor and its alias.
        output_filter: aliases wanted; none means all.
        timeout_ms: bound of the run; 0: none.
        check_method: refuse a signature whose method name is unknown.

    Returns:
        Arrays by output alias.

    Raises:
        ServingError: the server's code and text for the first check that fails.
    """
    signature = servable.signatures.get(signature_name or DEFAULT_SIGNATURE)
    if signature is None:
        name = signature_name or DEFAULT_SIGNATURE
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    if check_method and signature.method_name not in _METHODS:
        raise ServingError(
            Code.INTERNAL,
            "Expected prediction signature method_name to be one of"
            f" {{{', '.join(_METHODS)}}}. Was: {signature.method_name}",
        )
    feeds = _feeds(signature, inputs, decode)
    aliases = _fetched_aliases(signature, output_filter)
    names = [signature.outputs[alias].name for alias in aliases]
    return dict(zip(aliases, servable.run(feeds, names, timeout_ms), strict=True))


def _feeds(
    signature: Any, inputs: Mapping[str, Any], decode: Callable[[Any, str], Array]
) -> dict[str, Array]:
    """Arrays by tensor name, one for each of the signature's inputs."""
    sent, expected = set(inputs), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)}"
            f" len({{{_names(sent)}}}) != len({{{_names(expected)}}})."
            f" Sent extra: {{{_names(sent - expected)}}}."
            f" Missing but required: {{{_names(expected - sent - set(signature.defaults))}}}."
        )
    feeds = {}
    for alias in sorted(expected):
        tensor = signature.inputs[alias].name
        if alias in sent:
            feeds[tensor] = decode(inputs[alias], alias)
        elif alias in signature.defaults:
            feeds[tensor] = tensors.decode(signature.defaults[alias], alias)
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {tensor}) not found in request and no"
                f" default value provided. Inputs expected to be in the request {{{_names(sent)}}},"
                f" or default input alias set: {_names(signature.defaults)}"
            )
    if sent - expected:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_names(sent & expected)},"
            f" request input: {_names(sent)}"
        )
    return feeds


def _fetched_aliases(signature: Any, output_filter: Sequence[str]) -> list[str]:
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in"
                f" the set {{{_names(signature.outputs)}}}."
            )
        if alias in aliases:
            raise invalid(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return aliases or sorted(signature.outputs)
