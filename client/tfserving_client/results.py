"""What the verbs return: plain, immutable data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # numpy loads slowly, and errors and states have no need of it
    from numpy.typing import NDArray


class State(StrEnum):
    """Life of a model version on the server, in this order."""

    UNKNOWN = "UNKNOWN"
    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """State of one model version, and the server's words if it failed to load."""

    version: int
    state: State
    error: str = ""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: dtype by TensorFlow's name (`DT_UINT8`); None stands for any size.

    `shape` itself is None where the rank is unknown.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call the model: alias → tensor, in and out.

    `optional` are the inputs that may be left out over gRPC: the model has a default for them.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a loaded version can be asked."""

    model: str
    version: int
    signatures: Mapping[str, Signature]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer.

    Attributes:
        outputs: arrays by alias, of the model's dtypes, maybe read-only. Strings are `bytes` in
            arrays of dtype object; bfloat16 comes as float32, which holds it exactly.
        version: the one that answered; over REST the server does not tell, so there it is the
            version that was asked for, or None.
    """

    outputs: Mapping[str, NDArray[Any]]
    version: int | None

    @property
    def output(self) -> NDArray[Any]:
        """The only output.

        Raises:
            ValueError: there are several, or none.
        """
        if len(self.outputs) != 1:
            names = ", ".join(map(repr, sorted(self.outputs))) or "none"
            raise ValueError(f"the outputs are {names}; name the one in outputs[…]")
        (array,) = self.outputs.values()
        return array


class Label(NamedTuple):
    """One of the classes that an example may be of; "" where the model names none."""

    label: str
    score: float
