"""`python -m MODULE` as a fork of one process that has imported TensorFlow, once for all.

Importing it is most of what a server's start or an export takes. What is special about a process
of its own (the import, what it writes, an environment that it reads) is tested on one.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


class Fork:
    """A running program, with as much of `subprocess.Popen` as tests use.

    Args:
        module: what would follow `python -m`.
        arguments: the program's.
        output: a file that what it writes is appended to; it is there from the start.
        environment: variables that differ from this process's.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], output: Path, **environment: str
    ) -> None:
        output.touch()
        self.args = [sys.executable, "-m", module, *arguments]
        self._process = _context.Process(
            target=_run, args=(module, list(arguments), str(output), environment), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _run(module: str, arguments: list[str], output: str, environment: dict[str, str]) -> None:
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.close(written)
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
