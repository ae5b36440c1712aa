"""What the verbs return: plain, immutable data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


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
    """One way to call the model: alias → tensor, in and out."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a loaded version can be asked."""

    model: str
    version: int
    signatures: Mapping[str, Signature]
