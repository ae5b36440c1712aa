"""What `tests.forks` imports before it forks."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import export.pipeline  # noqa: F401
