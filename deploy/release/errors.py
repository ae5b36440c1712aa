"""How what a version brings along can be no good."""


class Unreadable(Exception):
    """The golden answers or the card of a version: missing, or not as they are written."""
