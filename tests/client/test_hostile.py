"""100,000 bad inputs: each is refused with `InvalidInput`, without a warning, and nothing is sent.

Hypothesis draws a seed for each example, and the example many values from it: drawing every value
by itself would take minutes.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import string
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import h11
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from tests.client.memory import InMemory
from tfserving_client import InvalidInput, Policy, Tls
from tfserving_client.call.exchange import Exchange
from tfserving_client.call.target import Target, parse
from tfserving_client.digits.pictures import MAX_FILE_BYTES
from tfserving_client.digits.verbs import DigitVerbs
from tfserving_client.grpc import messages
from tfserving_client.rest.http11 import Conversation
from tfserving_client.results import Prediction

SEEDS = st.integers(0, 2**32 - 1)
KNOWN = [(28, 28), (1, 28, 28), (2, 28, 28), (2, 28, 28, 1), (1, 784), (3, 784)]
GOOD = np.zeros((28, 28), np.uint8)
_, PNG = io.BytesIO(), io.BytesIO()
Image.new("L", (9, 9)).save(PNG, "PNG")
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def examples(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        report_multiple_bugs=False,
    )  # fmt: skip


class Client(InMemory):
    """Looks at what is sent: exactly one tensor that a signature takes."""

    def __init__(self) -> None:
        super().__init__(self._look)
        self.sent: list[np.ndarray[Any, Any] | list[bytes]] = []

    def _look(self, exchange: Exchange[Any]) -> Any:
        request = messages.PredictRequest.FromString(exchange.body)
        ((_, tensor),) = request.inputs.items()
        dims = messages.TensorShape.FromString(tensor.tensor_shape).dim
        shape = tuple(dim.size for dim in dims)
        kind = (request.model_spec.signature_name, tensor.dtype, shape[1:])
        values: Any
        if kind == ("serving_default", 4, (28, 28)):
            values = np.frombuffer(tensor.tensor_content, np.uint8).reshape(shape)
        elif kind == ("predict_images", 1, (784,)):
            values = np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)
            assert values.min() >= 0
            assert values.max() <= 1
        else:
            assert kind == ("encoded", 7, ())
            values = list(tensor.string_val)
            assert all(data.startswith(MAGIC) for data in values)
            assert max(map(len, values)) <= MAX_FILE_BYTES
        assert len(values) == shape[0] >= 1
        self.sent.append(values)
        return Prediction({"probabilities": np.zeros((len(values), 10))}, 1)

    def refuses(self, images: Any, **arguments: Any) -> bool:
        before = len(self.transports[0].sent)
        try:
            self.classify(images, **arguments)
        except InvalidInput as refusal:
            assert len(self.transports[0].sent) == before, "something was sent"
            _check_words(refusal)
            return True
        assert len(self.transports[0].sent) == before + 1
        return False


def _check_words(refusal: InvalidInput) -> None:
    words = str(refusal)
    assert len(words) > 5
    assert "\n" not in words


@contextmanager
def silence() -> Iterator[None]:
    """Not a single warning: as errors they would become refusals."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", r"__\w+__ returned non-")  # Python's, of their methods
        warnings.filterwarnings("ignore", "Warning: converting a masked element to nan")
        yield
    assert [str(warning.message) for warning in heard] == []


def _refused(refuses: Callable[[], bool | None], times: int) -> None:
    """Until so many were refused; None or False: it was fine, and accepted."""
    with silence():
        count = 0
        for _ in range(20 * times):
            count += bool(refuses())
            if count == times:
                return
    raise AssertionError(f"only {count} of the inputs were bad")


# --- arrays ---

DTYPES = [
    np.dtype(code) for code in [*"?bhilqBHILQefdgFDGOMm", "S3", "U3", "V5", "M8[D]", "m8[s]",
                                ">i2", ">f4", ">f8", ">u8", "i4,f4", "3u1"]
]  # fmt: skip


def _shape(chance: random.Random) -> tuple[int, ...]:
    shape = chance.choice(KNOWN)
    if chance.random() < 0.5:
        return shape
    mutable = list(shape)
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(len(mutable) + 1)
        if chance.random() < 0.5 and place < len(mutable):
            mutable[place] = chance.choice([0, 1, 2, 27, 28, 29])
        elif chance.random() < 0.5:
            mutable.insert(place, chance.choice([0, 1, 2, 3]))
        else:
            del mutable[place:]
    return tuple(mutable) if math.prod(mutable) < 10_000 else shape


def _array(chance: random.Random) -> np.ndarray[Any, Any]:
    shape, dtype = _shape(chance), chance.choice(DTYPES)
    raw = np.random.default_rng(chance.getrandbits(32))
    size = math.prod(shape)
    if dtype.kind in "iufc" and chance.random() < 0.4:  # any bits: NaN, inf, denormals
        return np.frombuffer(raw.bytes(size * dtype.itemsize), dtype).reshape(shape)
    top = chance.choice([1, 1, 100, 255, 256, 1000])
    values = raw.random(shape) * top if dtype.kind in "fc" else raw.integers(0, top + 1, shape)
    with np.errstate(all="ignore"):
        if dtype.kind in "ViuMm":
            array = np.zeros(shape, dtype)
            if dtype.kind in "iu":
                array[...] = values.astype(dtype)
            return array
        return values.astype(dtype)


def _is_fine(array: np.ndarray[Any, Any]) -> bool:
    shape = array.shape
    if shape == (784,) and array.dtype == object:  # a row of pandas
        return _is_fine(np.asarray(array.tolist()))
    single = {(28, 28), (28, 28, 1), (784,)}
    if shape not in single and shape[1:] not in {*single, (1, 28, 28)}:
        return False
    if array.size and array.dtype.kind == "b":
        rows = array.reshape(-1, 28, 28)
        border = np.concatenate([rows[:, 0], rows[:, -1], rows[:, 1:-1, 0], rows[:, 1:-1, -1]], 1)
        return bool(np.all((border.mean(axis=1) <= 0.75) | rows.all(axis=(1, 2))))  # no dark ink
    top = {"u": 255, "i": 255, "f": 1}.get(array.dtype.kind)
    if array.size == 0 or top is None or not np.all((array >= 0) & (array <= top)):
        return False
    return not (top == 255 and array.max() == 1)  # 0 and 1, where 0..255 are meant


@examples(100)
@given(SEEDS)
def test_arrays_of_every_dtype_shape_and_content(seed: int) -> None:
    chance = random.Random(seed)
    with Client() as digits:

        def refuses() -> bool:
            change: Any = chance.choice([np.asarray, np.asfortranarray, np.flip])
            array = change(_array(chance))
            array = np.asarray(array)  # flip makes a scalar of an object
            fine = _is_fine(array)
            images: Any = array
            if array.dtype.kind in "iu?" and array.ndim and chance.random() < 0.2:
                images = array.tolist()
            assert digits.refuses(images) is not fine, (array.dtype, array.shape)
            if fine:
                sent = digits.sent[-1]
                assert isinstance(sent, np.ndarray)
                white = 255 if array.dtype.kind == "b" else 1
                assert np.array_equal(sent.ravel(), array.astype(sent.dtype).ravel() * white)
            return not fine

        _refused(refuses, 350)


@examples(50)
@given(SEEDS)
def test_one_pixel_that_is_no_number_or_out_of_range(seed: int) -> None:
    chance = random.Random(seed)
    bad: dict[str, list[Any]] = {
        "f": [math.nan, math.inf, -math.inf, -1e-30, 1.0001, 1e30],
        "i": [-1, 256, 2**31 - 1, -(2**31)],
    }
    with Client() as digits:

        def refuses() -> bool:
            dtype = chance.choice(["f4", "f8", ">f8", "g", "i4", "i8", ">i4"])
            images = np.zeros(chance.choice(KNOWN), dtype)
            pixel = chance.choice(bad["i" if "i" in dtype else "f"])
            images.ravel()[chance.randrange(images.size)] = pixel
            assert digits.refuses(images), (dtype, pixel)
            return True

        _refused(refuses, 200)


# --- lists and other objects ---

JUNK: list[Any] = [
    None, True, 0, -1, 255, 256, 2**63, 2**64, 10**400, 10**5000, 0.5, 1.5, math.nan, math.inf,
    1j, "", "a", "\0", "\udcff", "/", "x" * 5000, b"", b"a", bytearray(b"\x89PNG"),
    memoryview(b"ab"),
    (), [], {}, {1}, [[]], [None], ["a", 1], range(28), object(),
    int, ..., NotImplemented, Decimal(1),
    Fraction(1, 2), np.float64(0.5), np.int8(3), np.array(1), np.array([]), np.str_("a"), lambda: 1,
    np.datetime64("2020-01-01"), np.ma.masked, np.zeros((27, 28)), slice(3), Path("no/such"), zip(),
]  # fmt: skip


NO_PIXELS = [
    junk for junk in JUNK
    if not isinstance(junk, range | int | float | np.number)
    and not (type(junk) is np.ndarray and junk.size == 1)
]  # fmt: skip


def _nested(chance: random.Random, depth: int = 0) -> Any:
    if depth > 3 or chance.random() < 0.15 * depth:
        return chance.choice(JUNK)
    below = [_nested(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    return chance.choice([list, list, tuple])(below)


def _ragged(chance: random.Random) -> Any:
    """28 rows of 28 pixels, but for one row or one pixel."""
    rows: list[Any] = [[0] * 28 for _ in range(28)]
    y, x = chance.randrange(28), chance.randrange(28)
    kind = chance.randrange(3)
    if kind == 0:
        rows[y] = [0] * chance.choice([0, 1, 27, 29])
    elif kind == 1:
        rows[y] = chance.choice(NO_PIXELS)
    else:
        rows[y][x] = chance.choice(NO_PIXELS)
    return rows if chance.random() < 0.5 else [[[0] * 28] * 28, rows]


@examples(40)
@given(SEEDS)
def test_nested_lists(seed: int) -> None:
    chance = random.Random(seed)
    with Client() as digits:

        def refuses() -> bool:
            images = chance.choice([_nested, _ragged])(chance)
            assert digits.refuses(images), repr(images)[:200]
            return True

        _refused(refuses, 250)


ERRORS: list[Any] = [
    ValueError, TypeError, RuntimeError, KeyError, AttributeError, OSError, RecursionError,
    MemoryError, StopIteration, AssertionError, OverflowError, NotImplementedError, LookupError,
    UnicodeDecodeError("ascii", b"a", 0, 1, "no"), Exception("two\nlines"), InvalidInput("theirs"),
]  # fmt: skip


class _Unspeakable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


METHODS = (
    "__array__", "__len__", "__getitem__", "__iter__", "__bool__", "__fspath__", "__index__",
    "__float__", "__int__", "__array_interface__", "__array_struct__", "__class__", "__repr__",
    "__str__", "__eq__", "__getattr__", "__contains__", "mode", "save", "convert", "__buffer__",
    "__array_function__", "__array_ufunc__", "dtype", "shape", "__hash__",
)  # fmt: skip
BASES: list[tuple[type, ...]] = [
    (), (), (), (list,), (Sequence,), (np.ndarray,), (os.PathLike,), (str,), (bytes,), (dict,),
    (int,), (float,), (tuple,), (Image.Image,),
]  # fmt: skip


def _method(chance: random.Random, name: str) -> Any:
    what = chance.choice([*ERRORS, _Unspeakable()] if chance.random() < 0.5 else JUNK)
    is_error = isinstance(what, Exception) or (
        isinstance(what, type) and issubclass(what, Exception)
    )
    if name in {"__float__", "__int__", "__index__"}:  # Python itself warns of their subclasses
        what = next((kind(what) for kind in (int, float) if isinstance(what, kind)), what)
    calls = 0

    def method(*_: Any, **__: Any) -> Any:
        nonlocal calls
        calls += 1
        if is_error:
            raise what
        if calls > 100 and name in {"__getitem__", "__iter__"}:  # no sequence for ever
            raise IndexError
        return what

    return property(method) if chance.random() < 0.2 or name == "__class__" else method


def _object(chance: random.Random) -> Any:
    bases = chance.choice(BASES)
    names = chance.sample(METHODS, chance.randint(1, 5))
    if bases == (Sequence,):
        names += ["__len__", "__getitem__"]
    if bases == (os.PathLike,):
        names += ["__fspath__"]
    body = {name: _method(chance, name) for name in names}
    body["__module__"] = chance.choice(["here", "here", "PIL.Fake", None, 5])
    made: Any = type("Hostile", bases, body)
    return made.__new__(made, (28, 28)) if bases == (np.ndarray,) else made.__new__(made)


@examples(60)
@given(SEEDS)
def test_objects_whose_methods_raise_or_lie(seed: int) -> None:
    chance = random.Random(seed)
    with Client() as digits:

        def refuses() -> bool:
            try:
                images = _object(chance)
            except Exception:
                return False
            if chance.random() < 0.3:
                images = chance.choice(
                    [[images], [images] * 2, [PNG.getvalue(), images], [GOOD, images]]
                )
            return digits.refuses(images)

        _refused(refuses, 250)


def test_an_interrupt_is_no_refusal() -> None:
    class Interrupted:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    with Client() as digits, pytest.raises(KeyboardInterrupt):
        digits.classify(Interrupted())


# --- pictures ---


class _Way(os.PathLike[str]):
    def __init__(self, way: Any) -> None:
        self.way = way

    def __fspath__(self) -> Any:
        return self.way


@cache
def _broken_pictures() -> list[Any]:
    """PIL images that cannot be read or written."""
    data = PNG.getvalue()
    found: list[Any] = []
    for size in range(40, len(data) - 12, 3):
        with contextlib.suppress(UnidentifiedImageError):
            image = Image.open(io.BytesIO(data[:size]))
            try:
                image.copy().load()
            except (OSError, SyntaxError):
                found.append(image)
    closed = Image.new("L", (3, 3))
    closed.close()
    jpeg = io.BytesIO()
    Image.frombytes("CMYK", (64, 64), bytes(range(256)) * 64).save(jpeg, "JPEG")
    cut = Image.open(io.BytesIO(jpeg.getvalue()[:-300]))
    return [closed, cut, Image.new("F", (3, 3)), Image.new("L", (0, 3)), Image.new("L", (0, 0)),
            *found]  # fmt: skip


def _picture(chance: random.Random) -> Any:
    letters = string.printable + "\0\udcff\ud800ü/\\.~"
    text = "".join(chance.choices(letters, k=chance.choice([0, 1, 3, 20, 300, 5000])))
    data = chance.randbytes(chance.choice([0, 1, 7, 8, 100]))
    one = chance.choice(
        [
            text, data, bytearray(data), memoryview(data), f"/{text}", f"{text}.png",
            np.str_(text), np.bytes_(data), _Way(text), _Way(data),
    _Way(chance.choice(JUNK)), Path("/" + text),
            chance.choice(_broken_pictures()), MAGIC[0] + bytes(MAX_FILE_BYTES),
            MAGIC[chance.randrange(2)][:-1] + data.replace(b"\n", b"").replace(b"\xff", b""),
            "/", "/dev/zero", "/dev/null", "/proc/self/mem", "/etc/passwd", ".",
        ]
    )  # fmt: skip
    if chance.random() < 0.3:
        return chance.choice([[one], (one, PNG.getvalue()), [PNG.getvalue(), one]])
    return one


@examples(50)
@given(SEEDS)
def test_paths_files_and_pictures(seed: int) -> None:
    chance = random.Random(seed)
    with Client() as digits:

        def refuses() -> bool:
            images = _picture(chance)
            assert digits.refuses(images), repr(images)[:200]
            return True

        _refused(refuses, 200)


# --- arguments ---


def _number(chance: random.Random) -> Any:
    return chance.choice(
        [
            chance.randint(-3, 3), chance.randint(-(2**70), 2**70), chance.uniform(-2, 2),
            chance.uniform(-1e9, 1e9), 10 ** chance.randrange(6000),
    -(10 ** chance.randrange(6000)),
            math.nan, math.inf, np.float32(chance.uniform(-2, 2)), np.int64(chance.randint(-3, 3)),
            np.bool_(True), Decimal(3), Fraction(chance.randint(-3, 3), 7), Fraction(10**5000),
            str(chance.random()), chance.choice(JUNK), chance.choice(JUNK),
        ]
    )  # fmt: skip


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_seconds(value: Any, *, zero: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(
        value, int | float | Fraction | np.integer | np.floating
    ):
        return False
    return bool(0 < value <= 10**6) or (zero and bool(value == 0))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


@examples(40)
@given(SEEDS)
def test_versions_labels_and_timeouts(seed: int) -> None:
    chance = random.Random(seed)
    fine: Mapping[str, Callable[[Any], bool]] = {
        "version": lambda value: _is_integer(value) and 0 < value < 2**63,
        "label": _is_name,
        "timeout": _is_seconds,
    }
    with Client() as digits:

        def refuses() -> bool:
            name = chance.choice([*fine])
            value = _number(chance)
            expected = value is None or fine[name](value)
            assert digits.refuses(GOOD, **{name: value}) is not expected, (name, value)
            return not expected

        _refused(refuses, 250)


# --- what a client is made of ---

PIECES = [
    "grpc", "grpcs", "http", "https", "dns", "unix", "http+unix",
    "://", "://", ":///", "/", "a", "b.c",
    "..", ".", "[::1]", "[", "]", ":", ":8500", ":0", ":99999", ":-1",
    ",", "@", "u:p@", "?", "#", "%", "%00",
    " ", "\n", "\t", "\0", "ü", "\udcff", "x" * 70, "٣", "v1",
    "\\", "127.0.0.1", "{", '"', "-", "_", "\u2028",
]  # fmt: skip


def _url(chance: random.Random) -> Any:
    if chance.random() < 0.05:
        return chance.choice(JUNK)
    start = chance.choice(
        ["grpc://", "http://", "https://a", "dns:///", "unix:///", "", "grpc://a"]
    )
    return start + "".join(chance.choices(PIECES, k=chance.randint(0, 5)))


def _check_target(target: Target) -> None:
    """What is accepted can be written on the wire."""
    if target.socket:
        assert target.socket.startswith("/")
        assert target.socket.isprintable()
        return
    target.host.encode("idna")
    assert target.host.isascii()
    assert 0 < target.port < 65536
    assert set(target.host + target.prefix) <= {chr(i) for i in range(33, 127)}
    if not target.grpc:
        request = Conversation(target).request("GET", f"{target.prefix}/v1", {}, b"")
        server = h11.Connection(h11.SERVER)
        server.receive_data(request)
        assert isinstance(server.next_event(), h11.Request)


@examples(40)
@given(SEEDS)
def test_urls(seed: int) -> None:
    chance = random.Random(seed)

    def refuses() -> bool:
        url = _url(chance)
        try:
            targets = parse(url, chance.choice([None, None, None, Tls(), *JUNK[:5]]))
        except InvalidInput as refusal:
            _check_words(refusal)
            return True
        for target in targets:
            _check_target(target)
        return False

    _refused(refuses, 250)


def _headers(chance: random.Random) -> Any:
    letters = "ax-_.:A \n\0ü\udcff\x7f\t"
    if chance.random() < 0.2:
        return chance.choice(JUNK)
    return {
        chance.choice(["x", "host", "te", "a-bin", *JUNK[:20], *chance.choices(letters, k=2)]):
        chance.choice(["x", "", *JUNK[:30], "".join(chance.choices(letters, k=2))])
        for _ in range(chance.randint(0, 2))
    }  # fmt: skip


@examples(40)
@given(SEEDS)
def test_what_a_client_and_a_policy_are_made_of(seed: int) -> None:
    chance = random.Random(seed)
    plain = parse("http://a")[0]

    def seconds(value: Any) -> bool:
        return _is_seconds(value)

    def wait(value: Any) -> bool:
        return _is_seconds(value, zero=True)

    fine: Mapping[str, Callable[[Any], bool]] = {
        "timeout": seconds,
        "attempt_timeout": lambda value: value is None or seconds(value),
        "hedge_after": lambda value: value is None or seconds(value),
        "first_wait": wait,
        "longest_wait": wait,
        "attempts": lambda value: _is_integer(value) and value > 0,
        "retry_share": lambda value: wait(value) and value <= 1,
    }

    def policy() -> bool:
        name, value = chance.choice([*fine]), _number(chance)
        try:
            made = Policy(**{name: value})
        except InvalidInput as refusal:
            _check_words(refusal)
            assert not fine[name](value), (name, value)
            return True
        assert fine[name](value), (name, value)
        assert 0 <= next(made.waits()) < math.inf
        return False

    def client() -> bool:
        name = chance.choice(
            ["model", "timeout", "coalesce", "api_key", "headers", "policy", "tls", "observe"]
        )
        value = _headers(chance) if name == "headers" else chance.choice([*JUNK, _number(chance)])
        try:
            made = DigitVerbs("http://a", **{name: value})
        except InvalidInput as refusal:
            _check_words(refusal)
            return True
        request = Conversation(plain).request("GET", "/", made._caller._headers, b"")
        assert request.startswith(b"GET / HTTP/1.1\r\nHost: a:8501\r\n")
        assert _is_name(made.model)
        assert seconds(made.timeout)
        assert made._company is None or wait(made._company)
        assert name not in {"policy", "tls"} or value is None
        return False

    def refuses() -> bool:
        return chance.choice([policy, client])()

    _refused(refuses, 250)
