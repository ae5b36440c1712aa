"""The two ways in which an export can end without a new version."""


class InputError(Exception):
    """Bad usage or input: data that cannot be read, a version that exists, a full disk."""


class Refused(Exception):
    """The candidate failed a check; nothing was published."""
