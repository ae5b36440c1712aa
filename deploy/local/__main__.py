"""`python -m deploy.local`: start and stop.

Exit status: 0 after SIGTERM or SIGINT, --help or --version; 255 when the server cannot start.
"""

import asyncio
import contextlib
import gc
import importlib.metadata
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from deploy import environment
from deploy.local import flags as command_line
from deploy.local import lean_tensorflow
from deploy.local.errors import ServingError

FAILED = 255


def main(arguments: list[str]) -> int:
    """Run the server; the exit status."""
    try:
        return _run(arguments)
    except ModuleNotFoundError as error:
        print(f"python -m deploy.local: {environment.told(error, 'make setup-local')}", flush=True)
        return FAILED


def _run(arguments: list[str]) -> int:
    if "--help" in arguments:
        print(command_line.usage(), end="")
        return 0
    try:
        flags, unknown = command_line.parse(arguments)
    except command_line.FlagError as error:
        print(f"{error}\n{command_line.usage()}", end="")
        return FAILED
    if flags.version:
        library = importlib.metadata.version("tensorflow")
        print("TensorFlow ModelServer: deploy.local, speaking 2.21.0")
        print(f"TensorFlow Library: {library}")
        return 0
    if unknown:
        print(f"unknown argument: {unknown[0]}\n{command_line.usage()}", end="", flush=True)
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(message)s", level=logging.INFO)
    for name in command_line.without_effect(flags):
        logging.warning("--%s is accepted but has no effect here", name)
    return _serve(flags)


def _serve(flags: command_line.Flags) -> int:
    # Importing TensorFlow takes seconds: report wrong flags before.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    lean_tensorflow.prepare()
    gc.disable()  # during imports, which leave little garbage
    with _without_native_notes():
        from deploy.local import server

    # Imported objects stay: without this each full collection visits them, a third of a second.
    gc.freeze()
    gc.enable()
    try:
        asyncio.run(server.serve(flags))
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return FAILED
    return 0


@contextlib.contextmanager
def _without_native_notes() -> Iterator[None]:
    """Keep off standard error what TensorFlow's import writes there at any log level.

    TF_CPP_MIN_LOG_LEVEL=0 shows it.
    """
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _leave(status: int) -> NoReturn:
    """End the process at once: a model run that outlived the drain cannot be interrupted."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # an error may quote any bytes
    for _signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_signal, lambda *_: _leave(0))
    _leave(main(sys.argv[1:]))
