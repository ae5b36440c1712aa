"""Running Predict on arrays by alias, for gRPC, REST and warm-up alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from deploy.local import metrics, tensors
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.models.servable import DEFAULT_SIGNATURE, Servable
from deploy.local.tensors import Array

_METHODS = tuple(f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))


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
    with metrics.runtime(servable.name, "Predict"):
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
