"""The two ways in which an operator's command can end without having done its work."""


class InputError(Exception):
    """Bad usage or input: nothing was done, and a retry would fail in the same way."""


class Refused(Exception):
    """Something is missing, in conflict or failed; what was begun has been undone."""
