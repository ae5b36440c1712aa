"""The images to train on: MNIST, your own file or folder, or the embedded sample of MNIST."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from export import npz
from export.digits.data import convention, idx, sample, table
from export.digits.data.download import download, put
from export.digits.subject import CHANNELS, CLASSES, PIXELS, SHAPE, SIDE, WHITE
from export.errors import InputError
from export.progress import say, warn

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
# Over the four arrays' bytes, so that it holds however they were packed.
MNIST_SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"

_TEST_SHARE = 1 / 7  # of images that are not divided, from the end: MNIST's 10,000
_VALIDATION_SHARE = 1 / 12  # of the training images, from the end: MNIST's last 5,000


@dataclass(frozen=True, slots=True)
class Split:
    """Images uint8 [n, *SHAPE], white ink on black if grey, and labels uint8 [n], 0 and up."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Choices are made on `validation`, which was cut from the training images.

    The test images are only reported on.
    """

    name: str
    sha256: str
    train: Split
    validation: Split
    test: Split
    note: str = ""


def load(source: str) -> Dataset:
    """Load `auto`, `mnist`, `digits`, an `.npz` file, CSV, or a folder of IDX or CSV files.

    Raises:
        InputError: it was not found, could not be downloaded, or is not such data.
    """
    if source == "auto":
        return _mnist_or_sample()
    if source == "mnist":
        return _mnist()
    if source == "digits":
        return _embedded_sample()
    try:
        dataset = _from_path(Path(source))
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from error
    parts = {"train": dataset.train, "test": dataset.test}
    for name, part in parts.items() if CHANNELS == 1 else ():
        found = convention.checked(part.images, part.labels, f"{source}: x_{name}")
        say(f"data    x_{name}: {found}; expected white ink on black, 0..255, upright")
    return dataset


def _mnist_or_sample() -> Dataset:
    try:
        return _mnist()
    except InputError as error:
        embedded = _embedded_sample()
        note = f"MNIST could not be downloaded ({error}); trained instead on {embedded.note}"
        warn(note)
        return replace(embedded, note=note)


def _mnist() -> Dataset:
    """Keras's MNIST: from its cache, else downloaded into it; the contents are verified."""
    cache = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets" / "mnist.npz"
    try:
        with cache.open("rb") as file:
            return verified_mnist(file, str(cache))
    except FileNotFoundError:
        pass
    except (InputError, OSError) as error:
        say(f"data    {error}")

    def accept(content: bytes) -> Dataset:
        dataset = verified_mnist(io.BytesIO(content), "the download")
        try:
            put(content, cache)
        except OSError as error:
            say(f"data    MNIST could not be saved for the next run: {error}")
        return dataset

    return download(MNIST_URL, accept)


def verified_mnist(file: BinaryIO, where: str) -> Dataset:
    """MNIST from an `.npz`; `where` is what a refusal calls the file.

    Raises:
        InputError: it does not hold MNIST's arrays, to the bit.
    """
    dataset = _read_npz(file, where, "mnist")
    if dataset.sha256 != MNIST_SHA256:
        raise InputError(
            f"{where} holds arrays of SHA-256 {dataset.sha256}; expected MNIST's, {MNIST_SHA256}"
        )
    return dataset


def _from_path(path: Path) -> Dataset:
    if path.is_dir():
        tables = sorted(file for file in path.iterdir() if _is_table(file))
        return _read_tables(path, tables) if tables else _read_idx(path)
    if _is_table(path):
        return _read_tables(path, [path])
    if path.is_file():
        with path.open("rb") as file:
            return _read_npz(file, str(path), path.stem)
    raise InputError(
        f"--data {path}: no such file or folder; expected auto, mnist, digits, an .npz, a .csv or "
        "a folder"
    )


# array → (file, dimensions)
_IDX_FILES = {
    "x_train": ("train-images-idx3-ubyte", 3),
    "y_train": ("train-labels-idx1-ubyte", 1),
    "x_test": ("t10k-images-idx3-ubyte", 3),
    "y_test": ("t10k-labels-idx1-ubyte", 1),
}
_KEYS = tuple(_IDX_FILES)
_SHAPES = tuple(dict.fromkeys([SHAPE, (SIDE, SIDE, CHANNELS), (PIXELS,)]))


def _read_idx(folder: Path) -> Dataset:
    paths = {key: idx.find(folder, name) for key, (name, _) in _IDX_FILES.items()}
    arrays = {key: idx.read(paths[key], dimensions) for key, (_, dimensions) in _IDX_FILES.items()}
    return _dataset(folder.resolve().name, arrays, {key: str(paths[key]) for key in _KEYS})


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith((".csv", ".csv.gz")) and path.is_file()


def _read_tables(path: Path, tables: list[Path]) -> Dataset:
    """Kaggle's: one table that is divided, or two, of which one has `test` in its name."""
    labelled = [table_ for table_ in tables if table.has_labels(table_)] if tables[1:] else tables
    test = [table_ for table_ in labelled if "test" in table_.name.lower()]
    train = [table_ for table_ in labelled if table_ not in test] or test
    if len(train) != 1 or len(test) > 1:
        names = ", ".join(table_.name for table_ in tables)
        raise InputError(
            f"{path} holds {names}; expected one table with labels, or a second with 'test' in "
            "its name"
        )
    x, y = table.read(train[0])
    if test and test != train:
        x_test, y_test = table.read(test[0])
        note = ""
    else:
        first_test = len(x) - max(1, round(len(x) * _TEST_SHARE))
        x, x_test, y, y_test = x[:first_test], x[first_test:], y[:first_test], y[first_test:]
        note = f"the last {len(y_test):,} rows of {train[0].name} are the test images"
    arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
    name = path.resolve().name.split(".")[0]
    return replace(_dataset(name, arrays, {key: f"{path}: {key}" for key in _KEYS}), note=note)


def _read_npz(file: BinaryIO, where: str, name: str) -> Dataset:
    arrays = npz.read(file, where, _KEYS)
    return _dataset(name, arrays, {key: f"{where}: {key}" for key in _KEYS})


def _dataset(
    name: str, arrays: Mapping[str, NDArray[np.generic]], called: Mapping[str, str]
) -> Dataset:
    """Check and name the four arrays, and cut the validation images from the training images.

    `called` is what a refusal calls each.
    """
    x_train, y_train = _checked(arrays, called, "train")
    x_test, y_test = _checked(arrays, called, "test")
    digest = hashlib.sha256()
    for array in (x_train, y_train, x_test, y_test):
        digest.update(array.tobytes())
    held_out = max(1, round(len(y_train) * _VALIDATION_SHARE))
    return Dataset(
        name,
        digest.hexdigest(),
        train=Split(x_train[:-held_out], y_train[:-held_out]),
        validation=Split(x_train[-held_out:], y_train[-held_out:]),
        test=Split(x_test, y_test),
    )


def _checked(
    arrays: Mapping[str, NDArray[np.generic]], called: Mapping[str, str], part: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    x, y = f"x_{part}", f"y_{part}"
    images, labels = arrays[x], arrays[y]
    if images.dtype.kind not in "ui" or images.shape[1:] not in _SHAPES:
        expected = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in _SHAPES)
        raise InputError(
            f"{called[x]} is {images.dtype} {images.shape}; expected uint8 "
            f"{expected}, 0..{WHITE}{_range(images)}"
        )
    if images.size and (images.min() < 0 or images.max() > WHITE):
        raise InputError(
            f"{called[x]} is {images.dtype}; expected pixels 0..{WHITE}{_range(images)}"
        )
    labels = _one_column(labels)
    if labels.dtype.kind not in "ui" or labels.shape != (len(images),):
        raise InputError(
            f"{called[y]} is {labels.dtype} {labels.shape}; "
            f"expected integers ({len(images)},), one for each image"
        )
    if len(labels) < 2:
        raise InputError(f"{called[x]} holds {len(labels)} images; expected at least 2")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise InputError(
            f"{called[y]} holds labels {labels.min()}..{labels.max()}; "
            f"expected 0..{len(CLASSES) - 1}"
        )
    return images.astype(np.uint8, copy=False).reshape(-1, *SHAPE), labels.astype(np.uint8)


def _one_column(labels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Labels [n] of labels [n, 1] or one-hot [n, classes]; others as they are."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    if labels.ndim == 2 and labels.shape[1] == len(CLASSES) and labels.dtype.kind in "uifb":
        ones = labels == 1
        if (ones.sum(axis=1) == 1).all() and (ones | (labels == 0)).all():
            return np.asarray(ones.argmax(axis=1))
    return labels


def _range(images: NDArray[np.generic]) -> str:
    if images.size == 0 or images.dtype.kind not in "uif":
        return ""
    return f"; it holds {images.min():.4g}..{images.max():.4g}"


def _embedded_sample() -> Dataset:
    arrays = sample.read(_KEYS)
    return replace(_dataset("digits", arrays, {key: key for key in _KEYS}), note=sample.NOTE)
