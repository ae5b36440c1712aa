"""Running the published model: compose files, the local server, and the operator's commands."""
