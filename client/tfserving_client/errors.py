"""Everything that can go wrong for a caller, in one tree.

ServingError
├── InvalidInput (ValueError)            refused here, nothing was sent
└── CallError                            a call was made and failed; carries a CallContext
    ├── Unreachable (ConnectionError)    no server, not serving yet, or it went away
    ├── DeadlineExceeded (TimeoutError)  no answer in time
    ├── NotFound (LookupError)           no such model or version is loaded
    ├── Rejected (ValueError)            the server refuses this request, now and later
    ├── AccessDenied (PermissionError)   no key, a wrong key, or a call that is not allowed
    ├── Overloaded                       the server or gateway is full; try later
    ├── ServerFailed                     the server's own fault
    └── BadResponse                      what answered does not speak TensorFlow Serving
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from tfserving_client.causes import explain


class CallContext(NamedTuple):
    """What was asked of whom: every `CallError` carries one."""

    endpoint: str
    model: str
    version: int | None = None
    label: str | None = None
    signature: str | None = None

    def __str__(self) -> str:
        """The context in words, for error messages."""
        which = f" version {self.version}" if self.version is not None else ""
        which += f" label {self.label!r}" if self.label is not None else ""
        which += f" signature {self.signature!r}" if self.signature is not None else ""
        return f"model {self.model!r}{which} at {self.endpoint}"


CLOSED = "this client is closed"


class ServingError(Exception):
    """Base of every error that this package raises."""


DigitsError = ServingError  # its name before 0.1.0


class InvalidInput(ServingError, ValueError):
    """An argument was refused before anything was sent."""


Raised = TypeVar("Raised", bound=ServingError)


def shortened(error: Raised) -> Raised:
    """An error without the frames that it came through: of interest is the caller's line.

    Raised `from None`, it keeps what it came from as `__context__`, and a traceback ends with it.
    """
    return error.with_traceback(None)


class CallError(ServingError):
    """A call failed.

    Attributes:
        context: what was asked of whom.
        cause: what went wrong, in plain words.
        advice: what to do about it; may be empty.
        is_permanent: trying again is useless until somebody changes something.
        server_text: the server's (or transport's) own words.
        retry_after: seconds that the server asks to wait before the next attempt, if it does.
        attempts: how many times it was tried.
    """

    advice = ""
    # Whether the same request may succeed a moment later. Classifying changes nothing on the
    # server, so trying again is always safe.
    transient = False

    def __init__(
        self, context: CallContext, server_text: str, retry_after: float | None = None
    ) -> None:
        super().__init__(server_text)  # one argument: of two, an OSError makes errno and strerror
        self.context = context
        self.cause, self.advice, self.is_permanent = explain(
            type(self).__name__, server_text, context._asdict(), type(self).advice
        )
        self.server_text = server_text
        self.retry_after = retry_after
        self.attempts = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the constructor's arguments, so that errors cross process pools."""
        arguments = (self.context, self.server_text, self.retry_after)
        return type(self), arguments, self.__dict__

    def __str__(self) -> str:
        """The cause, what to do, and what was asked of whom."""
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.cause.removesuffix('.')}{advice} ({self.context}{tries})"


class Unreachable(CallError, ConnectionError):
    """No server listens there, it is not serving yet, or the connection broke."""

    advice = "is the server up and the address right? Its ports open once a model is loaded"
    transient = True


class DeadlineExceeded(CallError, TimeoutError):
    """No answer came within the timeout."""

    advice = "raise timeout=, or ask for less at once"


class NotFound(CallError, LookupError):
    """The model, or the version asked for, is not loaded."""

    advice = "`status` lists what is loaded"


class Rejected(CallError, ValueError):
    """The server understood the request and refuses it."""

    advice = "`metadata` lists the signatures and their inputs"


class AccessDenied(CallError, PermissionError):
    """The gateway needs a key, or does not allow this call."""

    advice = "pass api_key= or tls=; ask the gateway's operator what is allowed"


class Overloaded(CallError):
    """The server or the gateway is full; it may take this request later."""

    advice = "try again later, or send less at once"
    transient = True


class ServerFailed(CallError):
    """The server failed on a request that may be fine."""

    advice = "the server's log has the reason"


class BadResponse(CallError):
    """What answered is not TensorFlow Serving, or its answer was cut off."""

    advice = "does this address and scheme belong to a TensorFlow Serving port?"
