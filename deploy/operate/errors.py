"""The two ways in which an operator's command can end without having done its work."""


class InputError(Exception):
    """Bad usage or input: nothing was done, and nothing would be different at the next try."""


class Refused(Exception):
    """Something is missing, in the way, or failed; what was begun is taken back."""
