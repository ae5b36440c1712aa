"""`predict` for any model: its signatures, asked for once per version and remembered. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, NamedTuple

from tfserving_client.call.arguments import checked_name, shown
from tfserving_client.call.coalescing import Question
from tfserving_client.call.exchange import Answer, Exchange
from tfserving_client.call.steps import Call
from tfserving_client.errors import (
    BadResponse,
    CallContext,
    InvalidInput,
    Rejected,
    ServingError,
)
from tfserving_client.results import Metadata, Prediction, Signature
from tfserving_client.serving.asking import Asking
from tfserving_client.serving.rows import PREDICTIONS, Rows, counted
from tfserving_client.serving.verbs import Known
from tfserving_client.tensors.conversion import as_they_are, conformed
from tfserving_client.tensors.features import Features, checked_examples

SIGNATURE = "serving_default"
_LOOK_AGAIN = 60.0  # seconds that signatures are remembered where no answer tells its version


class Asked(NamedTuple):
    """The arguments of `predict`, as they came."""

    inputs: Any
    signature: str
    outputs: tuple[str, ...]
    version: int | None
    label: str | None
    timeout: float | None
    raw: bool


class Preparing:
    """Makes rows of each item of `predict_many`.

    If the signature cannot be fetched, all items of one request get that error, as if the request
    had failed. For the next request it is fetched again.
    """

    def __init__(self, asked: Asked, context: CallContext, size: int, known: Known) -> None:
        self.asked, self.context = asked, context
        self._size, self._known = size, known
        self.declared: Signature | None = None
        self._error: ServingError | None = None
        self._failing = 0  # items that the error is yet to be given

    @property
    def lacks_signature(self) -> bool:
        """Whether it has to be asked for before the next item."""
        which = (self.context.version, self.context.label)
        return not (self.asked.raw or self._failing or which in self._known)

    def fail(self, error: ServingError) -> None:
        """The signature could not be fetched."""
        self._error, self._failing = error, self._size

    def __call__(self, item: Any) -> Rows:
        """The rows of an item.

        Raises:
            InvalidInput: the signature does not take it, or there is none of this name.
            CallError: the signature could not be fetched.
        """
        asked = self.asked._replace(inputs=item)
        if asked.raw:
            return _raw(asked)
        if self._error and self._failing:
            self._failing -= 1
            raise copy(self._error)
        if known := self._known.get((self.context.version, self.context.label)):
            self.declared = _named(known[0], self.context)
        assert self.declared  # else its lack was told
        return _rows(asked, self.declared)


class Predicting(Asking):
    """`predict` and its relatives; the arguments are those of `Verbs`."""

    def _predict(self, asked: Asked) -> Call[Prediction]:
        context, deadline = self._which(asked), self._deadline(asked.timeout)
        if asked.raw:
            question = Question(context, _raw(asked), deadline)
            prediction: Prediction = yield from self._ask(question)
            return prediction
        was_known = (context.version, context.label) in self._known
        declared = None
        try:
            declared = yield from self._declared(context, deadline)
            question = Question(context, _rows(asked, declared), deadline)
            prediction = yield from self._answer(question)
        except (InvalidInput, Rejected, BadResponse):
            if not was_known:
                raise
            # A newer version may take what this one does not.
            self._known.pop((context.version, context.label), None)
            newer = yield from self._declared(context, deadline)
            if newer == declared:
                raise
            question = Question(context, _rows(asked, newer), deadline)
            prediction = yield from self._ask(question)
        return prediction

    def _ask(self, question: Question) -> Call[Any]:
        return self._ask_declared(question) if question.batch.declared else super()._ask(question)

    def _ask_declared(self, question: Question) -> Call[Prediction]:
        """Forget the signature if another version answers."""
        prediction: Prediction = yield from super()._ask(question)
        which = (question.context.version, question.context.label)
        known = self._known.get(which)
        if known and prediction.version not in {None, known[0].version}:
            self._known.pop(which, None)
        return prediction

    def _declared(self, context: CallContext, deadline: float) -> Call[Signature]:
        """The signature that the context names, which is asked for once per version."""
        which = (context.version, context.label)
        metadata, until = self._known.get(which, (None, 0.0))
        if metadata is None or time.monotonic() > until:
            metadata = yield from self._caller.call(self._wire().metadata(context), deadline)
            # Over gRPC each answer tells its version; over REST a newer one comes unnoticed.
            is_lasting = context.version is not None or self._targets[0].grpc
            until = math.inf if is_lasting else time.monotonic() + _LOOK_AGAIN
            self._known[which] = metadata, until
        return _named(metadata, context)

    def _preparing(self, asked: Asked, size: int) -> Preparing:
        return Preparing(asked, self._which(asked), size, self._known)

    def _learn(self, preparing: Preparing) -> Call[None]:
        """Ask for the signature of the items that come."""
        deadline = self._deadline(preparing.asked.timeout)
        try:
            preparing.declared = yield from self._declared(preparing.context, deadline)
        except ServingError as error:
            preparing.fail(error)

    def _of_examples(
        self,
        ask: Callable[[CallContext, Sequence[Features]], Exchange[Answer]],
        examples: Any,
        signature: str,
        version: int | None,
        label: str | None,
        timeout: float | None,
    ) -> Call[Answer]:
        context = self._context(version, label, checked_name("signature", signature))
        exchange = ask(context, checked_examples(examples))
        return (yield from self._caller.call(exchange, self._deadline(timeout)))

    def _which(self, asked: Asked) -> CallContext:
        signature = checked_name("signature", asked.signature)
        return self._context(asked.version, asked.label, signature)


def asked(
    inputs: Any,
    signature: str,
    outputs: str | Sequence[str] | None,
    version: int | None,
    label: str | None,
    timeout: float | None,
    raw: bool,
) -> Asked:
    """The arguments of `predict`, checked as far as they can be without the signature."""
    if isinstance(outputs, str):
        outputs = [outputs]
    if not isinstance(outputs, Iterable | None):
        raise InvalidInput(f"outputs is {shown(outputs)}; expected names")
    wanted = tuple(dict.fromkeys(checked_name("output", name) for name in outputs or ()))
    return Asked(inputs, signature, wanted, version, label, timeout, raw)


def _raw(asked: Asked) -> Rows:
    return Rows(asked.signature, as_they_are(asked.inputs), None, outputs=asked.outputs)


def _named(metadata: Metadata, context: CallContext) -> Signature:
    declared = metadata.signatures.get(str(context.signature))
    if declared is None:
        names = sorted(name for name in metadata.signatures if not name.startswith("__"))
        raise InvalidInput(
            f"version {metadata.version} of model {context.model!r} has no signature "
            f"{context.signature!r}; it has {', '.join(names)}"
        )
    return declared


def _rows(asked: Asked, declared: Signature) -> Rows:
    if unknown := [name for name in asked.outputs if name not in declared.outputs]:
        raise InvalidInput(
            f"signature {asked.signature!r} has no output {unknown[0]!r}; it gives "
            f"{', '.join(sorted(declared.outputs))}"
        )
    inputs = conformed(asked.signature, declared, asked.inputs)
    rows = counted(inputs, declared)
    return Rows(asked.signature, inputs, rows, PREDICTIONS, asked.outputs, declared)
