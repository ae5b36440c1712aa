"""The commands that operate the bundle: `python -m deploy`."""
