"""A version's model card: the part that is compared with what is served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.release.errors import Unreadable
from tfserving_client import Signature, TensorSpec

PATH = Path("assets.extra", "model_card.json")
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Card:
    """The content of a card.

    Attributes:
        signatures: name → inputs and outputs, as the client returns those of a server.
        methods: name → `tensorflow/serving/predict`, `…/classify` or `…/regress`.
    """

    signatures: Mapping[str, Signature]
    methods: Mapping[str, str]


def read(folder: Path) -> Card | None:
    """The card of the version in a folder; None if it has none.

    Raises:
        Unreadable: it is not a card as `python -m export` writes it.
    """
    path = folder / PATH
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Unreadable(f"{path} has more than {_MOST_BYTES:,} bytes; expected a model card")
        signatures = json.loads(path.read_bytes())["signatures"]
        return Card(
            {
                name: Signature(_tensors(one["inputs"]), _tensors(one["outputs"]))
                for name, one in signatures.items()
            },
            {name: str(one["method"]) for name, one in signatures.items()},
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise Unreadable(f"{path} is not a model card: {type(error).__name__}: {error}") from error


def _tensors(infos: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
    return {alias: _tensor(**info) for alias, info in infos.items()}


def _tensor(dtype: str, shape: list[int | None]) -> TensorSpec:
    return TensorSpec(f"DT_{_LONG_NAMES.get(dtype, dtype).upper()}", tuple(shape))


# TensorFlow's Python names whose message names differ in more than case.
_LONG_NAMES = {"float16": "half", "float32": "float", "float64": "double"}
