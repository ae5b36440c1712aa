"""A candidate on a server, before it is published: `python -m deploy verify`, a program of its own.

The server is the one that SERVING_IMAGE or SERVING_BINARY names, else the local one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from export.errors import InputError, Refused
from export.progress import say


def verify(folder: Path, name: str) -> None:
    """Let a candidate pass or not, that lies in a folder and will be called by a name.

    Raises:
        Refused: it does not load, or does not answer as it must.
        InputError: there is no server to verify it on.
    """
    say("verify  starting a server on the candidate")
    command = [sys.executable, "-m", "deploy", "verify", "--json"]
    command += [f"--path={folder.resolve()}", f"--name={name}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            told, error = process.communicate()
        except BaseException:  # Ctrl-C: it has a server to stop
            process.terminate()
            raise
    try:
        report = json.loads(told)
    except ValueError:
        raise InputError(f"--verify: {error.strip() or 'no report'}") from None
    if not report["verified"]:
        raise Refused(f"on a server, {report['problems'][0]}")
    signatures = [name for name, rows in report["rows"].items() if rows]
    say(f"verify  {report['server']} answers {', '.join(signatures)} over gRPC and REST as it must")
