from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable

import pytest

import tfserving_client
from tfserving_client import errors
from tfserving_client.errors import CallContext, CallError, DigitsError


def _subclasses(base: type[DigitsError]) -> list[type[DigitsError]]:
    return [found for child in base.__subclasses__() for found in [child, *_subclasses(child)]]


def test_the_printed_tree_is_the_tree() -> None:
    tree = inspect.getdoc(errors)
    assert tree is not None
    for kind in _subclasses(DigitsError):
        line = next(line for line in tree.splitlines() if f"─ {kind.__name__} " in line)
        stdlib = [base.__name__ for base in kind.__bases__ if not issubclass(base, DigitsError)]
        assert all(f"({name})" in line for name in stdlib)


def test_every_error_is_public() -> None:
    assert {kind.__name__ for kind in _subclasses(DigitsError)} <= set(tfserving_client.__all__)


@pytest.mark.parametrize("kind", [CallError, *CallError.__subclasses__()])
@pytest.mark.parametrize("retry_after", [None, 0.0, 1.5])
@pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy,
                                       copy.deepcopy, lambda e: e])  # fmt: skip
def test_call_errors_say_what_was_asked_of_whom_and_survive_pickling(
    kind: type[CallError], retry_after: float | None, duplicate: Callable[[CallError], CallError]
) -> None:
    context = CallContext("grpc://here:1", "mnist", version=3, signature="encoded")
    error = kind(context, "the server's words", retry_after)
    assert (error.attempts, "attempts" in str(error)) == (1, False)
    error.attempts = 4
    error.context = context._replace(endpoint="grpc://there:2", label="a")
    found = duplicate(error)
    assert type(found) is kind
    assert (found.context, found.server_text) == (error.context, "the server's words")
    assert (found.retry_after, found.attempts) == (retry_after, 4)
    assert str(found) == str(error)
    advice = f"; {kind.advice}" if kind.advice else ""
    assert str(found) == (
        f"the server's words{advice} (model 'mnist' version 3 label 'a' signature 'encoded' "
        "at grpc://there:2 after 4 attempts)"
    )


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_server_without_words_is_told_of(text: str) -> None:
    assert "no details" in str(CallError(CallContext("grpc://a", "mnist"), text))


def test_only_what_may_pass_by_itself_is_transient() -> None:
    transient = {kind for kind in CallError.__subclasses__() if kind.transient}
    assert transient == {errors.Unreachable, errors.Overloaded}


def test_public_names_are_sorted_and_exist() -> None:
    assert tfserving_client.__all__ == sorted(tfserving_client.__all__)
    assert all(hasattr(tfserving_client, name) for name in tfserving_client.__all__)


def test_those_that_are_os_errors_have_no_number_of_the_systems() -> None:
    error = errors.Unreachable(CallContext("grpc://here:1", "mnist"), "gone", 2.0)
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
