"""What an operator types: `python -m deploy`."""
