"""What `tests.forks` imports before it forks."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import export.digits.candidate
import export.models.candidate  # noqa: F401
