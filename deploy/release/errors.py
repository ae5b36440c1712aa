"""How what is read of a version, or was measured of one, can be no good."""


class Unreadable(Exception):
    """Golden answers, a card, or what a replica can do: missing, or not as they are written."""
