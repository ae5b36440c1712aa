from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.errors import InputError
from export.models.samples import Input, Samples, made, read

FLOATS = Input(np.dtype(np.float32), (None, 2))
COLUMN = Input(np.dtype(np.int32), (None, 1))
TEXT = Input(np.dtype(object), (None,))


def _samples(**arrays: Any) -> Samples:
    return Samples("rows.npz", "", {name: np.asarray(values) for name, values in arrays.items()})


def test_values_become_what_the_model_takes() -> None:
    rows = _samples(a=[[1, 2]], b=[7.0], c=["Wörgl"]).inputs({"a": FLOATS, "b": COLUMN, "c": TEXT})
    assert rows["a"].dtype == np.float32
    assert rows["b"].dtype == np.int32
    assert rows["b"].tolist() == [[7]]
    assert rows["c"].tolist() == ["Wörgl".encode()]


def test_x_stands_for_an_only_input() -> None:
    assert _samples(x=[[1, 2]]).inputs({"flower": FLOATS})["flower"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("arrays", "wanted", "words"),
    [
        ({"b": [[1, 2]]}, {"a": FLOATS}, "lacks a; the model's inputs are a, and it holds b"),
        ({"x": [[1, 2]]}, {"a": FLOATS, "b": FLOATS}, "lacks a, b"),
        ({"a": [[1, 2, 3]]}, {"a": FLOATS}, r"a is int64 \(1, 3\); expected \(n, 2\)"),
        ({"a": [1.5]}, {"a": COLUMN}, "a is float64; expected int32"),
        ({"a": [np.nan]}, {"a": COLUMN}, "a is float64; expected int32"),
        ({"a": [300]}, {"a": Input(np.dtype(np.uint8), (None,))}, "expected uint8"),
        ({"a": ["1"]}, {"a": COLUMN}, "a is <U1; expected int32"),
        ({"a": [1]}, {"a": TEXT}, "a is int64; expected strings"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    arrays: dict[str, Any], wanted: dict[str, Input], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        _samples(**arrays).inputs(wanted)


def test_truth_by_output() -> None:
    assert list(_samples(y=[1]).truth(["price"], {"a"})) == ["price"]
    assert list(_samples(y_b=[1]).truth(["a", "b"], {"a"})) == ["b"]
    assert _samples(a=[1]).truth(["a", "b"], {"a"}) == {}
    with pytest.raises(InputError, match="y; expected y_a, y_b"):
        _samples(y=[1]).truth(["a", "b"], {"a"})
    with pytest.raises(
        InputError, match=r"holds y_c, which is not an input or a truth; expected a"
    ):
        _samples(y_c=[1]).truth(["a", "b"], {"a"})
    with pytest.raises(InputError, match="the truth of a is <U1; expected numbers"):
        _samples(y=["c"]).truth(["a"], {"a"})


def test_made_rows_fit_and_are_the_same_every_time() -> None:
    wanted = {
        "pixels": Input(np.dtype(np.uint8), (None, None, 4, 3)),
        "level": Input(np.dtype(np.float16), (None,)),
        "flag": Input(np.dtype(bool), (None, 1)),
        "word": Input(np.dtype(object), (None,)),
        "all": Input(np.dtype(np.int64), ()),
    }
    rows, again = made(wanted), made(wanted)
    assert rows["pixels"].shape == (64, 32, 4, 3)
    assert rows["pixels"].max() > 200
    assert set(rows["word"]) == {b"0", b"1"}
    for name, values in rows.items():
        assert values.dtype == wanted[name].dtype
        assert np.array_equal(values, again[name])
    with pytest.raises(InputError, match="input z does not say its shape; give --samples"):
        made({"z": Input(np.dtype(np.float32), None)})


def test_a_file_of_samples(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, a=np.zeros((3, 2)), y=np.zeros(3), scale=np.float32(2))
    found = read(path)
    assert (found.name, len(found.sha256)) == ("rows.npz", 64)
    assert found.arrays.keys() == {"a", "y", "scale"}
    np.savez(path, a=np.zeros((3, 2)), y=np.zeros(4))
    with pytest.raises(InputError, match="holds rows: a 3, y 4; expected as many of each"):
        read(path)
    np.savez(path, a=np.zeros((0, 2)))
    with pytest.raises(InputError, match="at least one"):
        read(path)
    np.savez(path, a=np.array(["x", 1], object))
    with pytest.raises(InputError, match=r"not a readable \.npz of plain arrays"):
        read(path)
    with pytest.raises(InputError, match=r"--samples .*: No such file"):
        read(tmp_path / "none.npz")
