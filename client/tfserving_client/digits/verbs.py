"""What clients of digit models do as well, without I/O; see `tfserving_client.serving.verbs`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tfserving_client.call.caller import Observe
from tfserving_client.call.coalescing import Question
from tfserving_client.call.policy import Policy
from tfserving_client.call.steps import Call
from tfserving_client.call.tls import Tls
from tfserving_client.digits import pictures
from tfserving_client.digits.classification import classification, join, split
from tfserving_client.digits.images import prepare
from tfserving_client.errors import Rejected
from tfserving_client.serving.predicting import Predicting
from tfserving_client.serving.rows import Answers, Rows

CLASSIFICATIONS = Answers(classification, split, join)
_LOOK_AGAIN = 60.0  # seconds; a newer version may have what this one lacks


class DigitVerbs(Predicting):
    """Everything about a client of a digit model but its I/O.

    The arguments are those of `tfserving_client.serving.verbs.Verbs`.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "mnist",
        timeout: float | None = None,
        policy: Policy | None = None,
        coalesce: bool | float = False,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        observe: Observe | None = None,
    ) -> None:
        super().__init__(
            url,
            model=model,
            timeout=timeout,
            policy=policy,
            coalesce=coalesce,
            api_key=api_key,
            headers=headers,
            tls=tls,
            observe=observe,
        )
        # Versions and labels whose model lacks the faster signature → when to look again.
        self._slower: dict[tuple[int | None, str | None], float] = {}

    def _question(
        self, images: Any, version: int | None, label: str | None, timeout: float | None
    ) -> Question:
        rows = ready(images)
        context = self._context(version, label, rows.signature)
        return Question(context, rows, self._deadline(timeout))

    def _ask(self, question: Question) -> Call[Any]:
        rows = question.batch
        if rows.answers is not CLASSIFICATIONS:
            return super()._ask(question)
        if rows.signature == "encoded":
            return self._ask_encoded(question)
        # Over gRPC nothing is faster than raw bytes.
        return super()._ask(question) if self._targets[0].grpc else self._ask_packed(question)

    def _ask_encoded(self, question: Question) -> Call[Any]:
        """Name the picture that is refused."""
        try:
            return (yield from super()._ask(question))
        except Rejected as error:
            pictures.explain(error, question.batch.inputs["image_bytes"])
            raise

    def _ask_packed(self, question: Question) -> Call[Any]:
        """By the faster signature, where the model has it."""
        context, rows = question.context, question.batch
        which = (context.version, context.label)
        may_be_faster = time.monotonic() >= self._slower.get(which, 0.0)
        if may_be_faster and (faster := packed(rows)):
            named = context._replace(signature=faster.signature)
            try:
                return (yield from super()._ask(Question(named, faster, question.deadline)))
            except Rejected as error:
                if f'"{faster.signature}" not found' not in error.server_text:
                    raise
                self._slower[which] = time.monotonic() + _LOOK_AGAIN
        return (yield from super()._ask(question))


def ready(images: Any) -> Rows:
    """Images as the inputs of the signature that takes them.

    Raises:
        InvalidInput: see `prepare`.
    """
    batch = prepare(images)
    return Rows(batch.signature, batch.inputs, len(batch), CLASSIFICATIONS)


def packed(rows: Rows) -> Rows | None:
    """Pixels as raw bytes, for a signature that a model may lack; None if these are no pixels.

    In JSON raw bytes, as base64, are a third of the text that they are as numbers.
    """
    (images,) = rows.inputs.values()
    if isinstance(images, list) or images.dtype != np.uint8:
        return None
    pixels, size = images.tobytes(), images[0].nbytes
    inputs = {"images": [pixels[at : at + size] for at in range(0, len(pixels), size)]}
    return replace(rows, signature="packed", inputs=inputs)
