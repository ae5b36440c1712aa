"""Weights as constants of the graph, as we ship them, against variables beside it.

Both hold the same network and the one signature `serving_default`, and are loaded and called the
server's way, in turns. Prints two tables in Markdown: figures, and what becomes of a version that
the server reads while it is being written (to the real server's rules, as `deploy.local` has them).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from deploy.local.errors import ServingError
from deploy.local.models.servable import load
from export.digits.data import sources as data
from export.digits.graph import signatures
from export.digits.training import network
from export.publication.serving_path import ServedModel

LOADS, CALLS = 30, 2_000
DATA = "variables/variables.data-00000-of-00001"
HALF_READ: dict[str, Callable[[Path], None]] = {
    "graph file cut short": lambda folder: os.truncate(folder / "saved_model.pb", 10_000),
    "no `variables/` yet": lambda folder: shutil.rmtree(folder / "variables"),
    "no index of the variables yet": lambda folder: (folder / "variables/variables.index").unlink(),
    "variables cut short": lambda folder: os.truncate(folder / DATA, 100),
}


def main() -> None:
    """Measure, and tell."""
    keras.utils.set_random_seed(1)
    trained = network.build()
    images = data.load("digits").test.images
    with tempfile.TemporaryDirectory() as root:
        folders = {"constants": Path(root, "constants"), "variables": Path(root, "variables")}
        _save_constants(trained, folders["constants"])
        _save_variables(trained, folders["variables"])
        rows: dict[str, list[float]] = {
            "bytes": [_bytes(folder) for folder in folders.values()],
            f"load, ms (median of {LOADS})": _in_turns(
                [partial(_load, folder) for folder in folders.values()], LOADS
            ),
        }
        served = [ServedModel(folder) for folder in folders.values()]
        for size in (1, 32):
            rows[f"call of {size}, ms (median of {CALLS:,})"] = _in_turns(
                [partial(model.run, "serving_default", images[:size]) for model in served], CALLS
            )
        half_read = {
            state: [_fate(folder, damage) for folder in folders.values()]
            for state, damage in HALF_READ.items()
        }
    print("| | constants | variables | ratio |\n| --- | --- | --- | --- |")
    for name, (constants, variables) in rows.items():
        ratio = constants / variables
        print(f"| {name} | {_figure(constants)} | {_figure(variables)} | {ratio:.2f} |")
    print("\n| state of the folder | constants | variables |\n| --- | --- | --- |")
    for state, fates in half_read.items():
        print(f"| {state} | {' | '.join(fates)} |")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value > 100 else f"{value:.3g}"


def _load(folder: Path) -> None:
    with ServedModel(folder):
        pass


def _save_constants(model: keras.Model, folder: Path) -> None:
    definitions = signatures.trace(model)
    tf.saved_model.save(
        tf.Module(), str(folder), {"serving_default": definitions["serving_default"]}
    )


def _save_variables(model: keras.Model, folder: Path) -> None:
    """As Keras saves it; a `tf.Module` around the model would load and then fail in the server."""

    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = model(tf.cast(images, tf.float32) / 255.0, training=False)
        return {"probabilities": probabilities, "digits": tf.argmax(probabilities, axis=1)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", serving_default, [tf.TensorSpec([None, 28, 28], tf.uint8, name="images")]
    )
    archive.write_out(str(folder), verbose=False)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _fate(folder: Path, damage: Callable[[Path], None]) -> str:
    with tempfile.TemporaryDirectory() as root:
        half = Path(root, "1")
        shutil.copytree(folder, half)
        damage(half)
        try:
            servable = load("mnist", 1, half)
        except ServingError:
            return "does not load"
        with contextlib.closing(servable):
            signature = servable.signatures["serving_default"]
            feeds = {signature.inputs["images"].name: np.zeros((1, 28, 28), np.uint8)}
            try:
                servable.run(feeds, [signature.outputs["probabilities"].name])
            except ServingError:
                return "AVAILABLE, and every request fails"
        return "answers as it should"


def _in_turns(calls: list[Callable[[], object]], times: int) -> list[float]:
    """Median milliseconds of each call, made by turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for call, taken in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return [1_000 * float(np.median(taken[times // 10 :])) for taken in seconds]


if __name__ == "__main__":
    main()
