"""The two ways in which an export can end without a new version."""

from __future__ import annotations

_LONGEST = 300
_ABOUT_WHERE = ("Graph execution error:", "Detected at node", "File ", "<stack traces")


class InputError(Exception):
    """Bad usage or input: data that cannot be read, a version that exists, a full disk."""


class Refused(Exception):
    """The candidate failed a check; nothing was published."""


def reason(error: BaseException) -> str:
    """What a library's error says, in one line: TensorFlow's and Keras's go on for pages."""
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    told = [line for line in lines if line and not line.startswith(_ABOUT_WHERE)]
    return (told or [type(error).__name__])[0][:_LONGEST]
