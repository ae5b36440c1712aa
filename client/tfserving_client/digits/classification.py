"""Which digit is on each image: from a model's raw outputs to a `Classification`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tfserving_client.errors import BadResponse, CallContext
from tfserving_client.results import Prediction

# Of the probabilities. `predict_images` keeps the names of TensorFlow Serving's own example; of its
# one output REST does not tell the name.
_ALIASES = ("probabilities", "scores", "")
_ROUNDING = 1e-3  # how far past 0..1 a probability may lie
_EQUAL = 1e-6  # apart from one another at most, as the ten of a blank image are
_SHOWN = 10  # digits
_DIGITS = frozenset(range(10))
_FEW = 100  # numbers, for which numpy takes longer to begin than Python to finish


@dataclass(frozen=True, slots=True)
class Digit:
    """The model's answer for one image, in Python's own numbers.

    Attributes:
        digit: the most probable one, 0 to 9.
        probability: its, 0 to 1.
        probabilities: of the digits 0 to 9.
        blank: the image shows nothing, and the digit says nothing.
        version: see `Classification`.
    """

    digit: int
    probability: float
    probabilities: tuple[float, ...]
    blank: bool
    version: int | None


@dataclass(frozen=True, slots=True, repr=False)
class Classification:
    """The model's answer for n images, in the order they were given.

    How sure is sure: of MNIST's test images that are answered with at least 0.9, three in a
    thousand are answered wrong (by a model of the embedded sample; of all MNIST, 1.5). A picture
    that does not show exactly one digit (several, a word, an empty form) is answered with at most
    0.5, and a blank one with 0.1 for each digit.

    Attributes:
        digits: int64 (n,), the most probable digit of each image; of a blank one it says nothing.
        probabilities: float32 (n, 10), each row sums to 1.
        version: the model version that answered; over REST the server does not tell, so there it
            is the version that was asked for, or None.
    """

    digits: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    version: int | None

    def __len__(self) -> int:
        """The number of images n."""
        return len(self.digits)

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Bool (n,): whether an image shows nothing: its ten probabilities are equal."""
        equal: NDArray[np.bool_] = np.ptp(self.probabilities, axis=1) < _EQUAL
        return equal

    @overload
    def __getitem__(self, index: int) -> Digit: ...

    @overload
    def __getitem__(self, index: slice) -> Classification: ...

    def __getitem__(self, index: int | slice) -> Digit | Classification:
        """One image's answer, or those of some."""
        if isinstance(index, slice):
            return Classification(self.digits[index], self.probabilities[index], self.version)
        digit, row = int(self.digits[index]), self.probabilities[index].tolist()
        return Digit(digit, row[digit], tuple(row), max(row) - min(row) < _EQUAL, self.version)

    def __iter__(self) -> Iterator[Digit]:
        """Each image's answer, in order."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """The first digits; the rest would fill the screen."""
        shown = ", ".join(f"{digit}" for digit in self.digits[:_SHOWN])
        more = ", …" if len(self) > _SHOWN else ""
        return f"Classification(n={len(self)}, digits=[{shown}{more}], version={self.version})"


def classification(context: CallContext, prediction: Prediction, n: int) -> Classification:
    """The answer for n images.

    Raises:
        BadResponse: the outputs are not n rows of ten probabilities, and n digits if any.
    """
    outputs = prediction.outputs
    probabilities = next((outputs[alias] for alias in _ALIASES if alias in outputs), None)
    if probabilities is None or probabilities.shape != (n, 10):
        found = {alias: array.shape for alias, array in outputs.items()}
        raise BadResponse(context, f"outputs {found}; expected probabilities of shape ({n}, 10)")
    if probabilities.dtype.kind not in "fiu" or not _are_shares(probabilities):
        raise BadResponse(context, "probabilities that do not lie in 0..1")
    digits = outputs.get("digits")
    if digits is None:
        digits = probabilities.argmax(axis=1)
    is_integer = digits.shape == (n,) and digits.dtype.kind in "iu"
    if not (is_integer and _DIGITS.issuperset(digits.tolist())):
        raise BadResponse(context, f"digits that are not {n} integers in 0..9")
    return Classification(
        digits.astype(np.int64, copy=False),
        probabilities.astype(np.float32, copy=False),
        prediction.version,
    )


def split(answer: Classification, sizes: Sequence[int]) -> list[Classification]:
    """One answer for `sum(sizes)` images → one for each size."""
    parts, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        parts.append(answer[rows])
        start += size
    return parts


def join(answers: Sequence[Classification]) -> Classification:
    """The reverse; the version is that of the last."""
    if len(answers) == 1:
        return answers[0]
    return Classification(
        np.concatenate([answer.digits for answer in answers]),
        np.concatenate([answer.probabilities for answer in answers]),
        answers[-1].version,
    )


def _are_shares(values: NDArray[Any]) -> bool:
    low, high = -_ROUNDING, 1 + _ROUNDING
    if values.size <= _FEW:
        return all(low <= value <= high for value in values.ravel().tolist())
    return bool(values.min() >= low and values.max() <= high)  # NaN is within nothing
