from __future__ import annotations

import inspect
import pickle

import pytest

import client
from client import errors
from client.errors import CallContext, CallError, DigitsError


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
    assert {kind.__name__ for kind in _subclasses(DigitsError)} <= set(client.__all__)


@pytest.mark.parametrize("kind", [CallError, *CallError.__subclasses__()])
def test_call_errors_say_what_was_asked_of_whom_and_survive_pickling(kind: type[CallError]) -> None:
    context = CallContext("grpc://here:1", "mnist", version=3, signature="encoded")
    error = kind(context, "the server's words")
    for copy in (error, pickle.loads(pickle.dumps(error))):
        assert type(copy) is kind
        assert (copy.context, copy.server_text) == (context, "the server's words")
        for part in ("grpc://here:1", "'mnist'", "version 3", "'encoded'", "the server's words"):
            assert part in str(copy)


def test_public_names_are_sorted_and_exist() -> None:
    assert client.__all__ == sorted(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)
