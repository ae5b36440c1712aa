"""The command line: `python -m tfserving_client`, or `tfserving-client`."""
