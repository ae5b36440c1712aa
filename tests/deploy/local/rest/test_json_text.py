import numpy as np
import pytest

from deploy.local.rest import json_text
from deploy.local.rest.json_text import Members


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1.0"),
        (-0.0, "-0.0"),
        (9000000, "9e+06"),
        (999999, "999999.0"),
        (999999.5, "999999.5"),
        (0.00003, "3e-05"),
        (555557.5, "555557.5"),
        (16777216, "16777216.0"),
        (1 / 3, "0.333333343"),
        (0.1, "0.1"),
        (3.4028235e38, "3.40282347e+38"),
        (123456792, "123456792.0"),
        (1e-40, "0.0"),
        (-1e-40, "-0.0"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_float32(number: float, text: str) -> None:
    assert json_text.floats(np.array([number], np.float32)) == [text]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1 / 3, "0.33333333333333331"),
        (1e300, "1e+300"),
        (1.0000000000000002, "1.0000000000000002"),
        (9007199254740994, "9007199254740994.0"),
        (1e-40, "1e-40"),
        (5e-324, "0.0"),
    ],
)
def test_float64(number: float, text: str) -> None:
    assert json_text.floats(np.array([number], np.float64)) == [text]


def test_every_float_reads_back_as_itself() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.abs(numbers) >= np.finfo(np.float32).tiny]
    texts = json_text.floats(numbers)
    np.testing.assert_array_equal(np.array([np.float32(text) for text in texts]), numbers)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-2.5, "-2.5"),
        (1000.0, "1000.0"),
        (1e20, "100000000000000000000.0"),
        (2.0**64, "18446744073709553000.0"),
        (1e21, "1e21"),
        (1.5e300, "1.5e300"),
        (0.001, "0.001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (123456.789, "123456.789"),
    ],
)
def test_doubles_in_messages(number: float, text: str) -> None:
    assert json_text.double(number) == text


def test_quote_escapes_as_rapidjson_does() -> None:
    assert json_text.quote('a"\\\n\x1f\x7fé') == '"a\\"\\\\\\n\\u001F\x7fé"'


def test_dump_keeps_lists_on_one_line_and_spreads_objects() -> None:
    value = Members([("a", [1, 2.0, None]), ("b", Members([("c", True), ("c", "x")])), ("d", [])])
    assert json_text.dump(value) == (
        '{\n    "a": [1, 2.0, null],\n    "b": {\n        "c": true,\n        "c": "x"\n    },\n'
        '    "d": []\n}'
    )


def test_dump_breaks_off_early() -> None:
    assert 256 <= len(json_text.dump(list(range(100_000)))) < 270


def test_members_find_the_first_of_a_name() -> None:
    members = Members([("a", 1), ("a", 2)])
    assert members.get("a") == 1
    with pytest.raises(KeyError):
        members.get("b")
