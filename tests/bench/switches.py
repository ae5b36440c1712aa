"""A thousand version switches of `python -m deploy.local` while callers ask all the time.

Several models on one folder with two versions are told by reload, again and again, to serve the
other one; without warm-up, which takes six to ten times as long as loading. Prints what came of it;
exit status 1 if a request failed or memory grew.

The real server's memory is not looked at, so `SERVING_BINARY` and `SERVING_IMAGE` are not for this.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

from deploy.runner import serve
from tfserving_client import DigitClient, Policy

MODEL = Path("models/mnist")
NAMES = [f"mnist-{number}" for number in range(10)]
SETTLED, SWITCHES = 50, 1_000
# MB, between the medians of ten looks each: one look differs from the next by nearly as much.
# The weights alone of 1,000 versions that stay would be 440.
LOOKS, GROWTH = 10, 10
PAUSE = 0.01  # seconds between an answer and the caller's next request
DEADLINE = 60  # seconds for a switch of all models
_STATES = get_model_status_pb2.ModelVersionStatus


@dataclass
class Load:
    """What has become of the callers' requests."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def callers(requests: Sequence[Callable[[], object]]) -> Iterator[Load]:
    """A thread for each request that makes it again and again, until the block ends.

    A request that raises has failed.
    """
    load, stop, lock = Load(), threading.Event(), threading.Lock()

    def call(request: Callable[[], object]) -> None:
        while not stop.wait(PAUSE):
            try:
                request()
            except Exception as error:  # whatever it is, it is to be told
                load.failed.append(repr(error))
            else:
                with lock:
                    load.answered += 1

    threads = [threading.Thread(target=call, args=[request]) for request in requests]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def switch(stub: Any, base_path: Path, names: Sequence[str], number: int) -> None:
    """Have models serve this version, and wait until it is the only one that each has loaded."""
    request = model_management_pb2.ReloadConfigRequest()
    for name in names:
        model = request.config.model_config_list.config.add(
            name=name, base_path=str(base_path), model_platform="tensorflow"
        )
        model.model_version_policy.specific.versions.append(number)
    stub.HandleReloadConfigRequest(request, timeout=DEADLINE)
    deadline = time.monotonic() + DEADLINE
    for name in names:
        while (loaded := _loaded(stub, name)) != {number}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} has {loaded}, not {number}, after {DEADLINE} s")
            time.sleep(0.02)


def _loaded(stub: Any, name: str) -> set[int]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    versions = stub.GetModelStatus(request, timeout=DEADLINE).model_version_status
    return {version.version for version in versions if version.state != _STATES.END}


def main() -> int:
    """Measure, and tell."""
    newest = max(MODEL.glob("[0-9]*"), key=lambda folder: int(folder.name))
    with ExitStack() as stack:
        base_path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "mnist")
        for number in (1, 2):
            shutil.copytree(newest, base_path / str(number))
        server = stack.enter_context(serve(base_path, flags=["--enable_model_warmup=false"]))
        channel = stack.enter_context(grpc.insecure_channel(server.grpc_url[len("grpc://") :]))
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        switch(stub, base_path, NAMES, 1)
        images = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
        clients = [
            stack.enter_context(DigitClient(url, model=name, policy=Policy(attempts=1)))
            for url, name in itertools.product((server.grpc_url, server.rest_url), NAMES[:3])
        ]
        memory = []
        started = time.perf_counter()
        with callers([partial(client.classify, images) for client in clients]) as load:
            for turn in range(SWITCHES // len(NAMES)):
                switch(stub, base_path, NAMES, 2 - turn % 2)
                memory.append(_megabytes(server.process.pid))
        seconds = time.perf_counter() - started
    settled = SETTLED // len(NAMES)
    first, last = statistics.median(memory[settled:][:LOOKS]), statistics.median(memory[-LOOKS:])
    print(f"switches: {SWITCHES:,} in {seconds:.0f} s, {SWITCHES / seconds:.1f} a second")
    print(f"requests: {load.answered:,} answered, {len(load.failed)} failed {load.failed[:3]}")
    print(
        f"memory, MB: {first:.0f} after {SETTLED}, {last:.0f} after {SWITCHES:,};"
        f" {last - first:+.1f}, at most {GROWTH}; never more than {max(memory):.0f}"
    )
    return 1 if load.failed or last - first > GROWTH else 0


def _megabytes(process: int) -> float:
    """What a process has in memory now."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
