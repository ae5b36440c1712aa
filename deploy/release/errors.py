"""The error for files that cannot be used."""


class Unreadable(Exception):
    """Golden answers, a card, or the measurements of a replica are missing or damaged."""
