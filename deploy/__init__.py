"""Running the published model: compose files, the local server, and the operator's commands."""

from pathlib import Path

FOLDER = Path(__file__).parent  # the folder of the compose files
