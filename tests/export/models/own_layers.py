"""What somebody's program would define: not registered with Keras, so `--import` has to find it."""

from __future__ import annotations

from typing import Any

import keras


class Scale(keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, by: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.by = by

    def call(self, x: Any) -> Any:
        return self.by * x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


class TwoTowers(keras.Model):  # type: ignore[misc]
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.left, self.right = keras.layers.Dense(3), keras.layers.Dense(3)

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        left, right = self.left(inputs["a"]), self.right(inputs["b"])
        return {"sum": left + right, "difference": left - right}


def bumpy(y: Any, answers: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y - answers)) / 2.0
