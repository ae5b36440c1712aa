"""Runs `python -m export` from a copy of `export/` in which a line was changed.

Usage: the copy's parent folder, then the command's arguments. It is run in a fork that has imported
TensorFlow, and the unchanged `export` with it, which is forgotten here.
"""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    for name in [name for name in sys.modules if name.partition(".")[0] == "export"]:
        del sys.modules[name]
    sys.path.insert(0, sys.argv.pop(1))
    runpy.run_module("export", run_name="__main__", alter_sys=True)
