"""Two servers, restarted one after the other under load: not one call fails.

The servers are small processes with one fixed answer. Restarts wait for what was seen and not for a
time, so the verdict does not hang on the machine's pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from deploy.runner import free_ports
from tfserving_client import AsyncDigitClient, DigitClient, Policy
from tfserving_client.call import endpoints
from tfserving_client.grpc import messages

CALLERS = 8
IMAGE = np.zeros((28, 28), np.uint8)
# Serves until SIGTERM, then finishes what it has begun. Tells its port, and that it is in use.
SERVER = """
import itertools, signal, sys, threading
scheme, port, answer = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
counter = itertools.count(1)

def look():
    if next(counter) == 20:
        print("in use", flush=True)
    return answer

if scheme == "grpc":
    from concurrent.futures import ThreadPoolExecutor
    import grpc

    class Service:
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda *_: look())

    server = grpc.server(ThreadPoolExecutor(8), (Service(),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(port, flush=True)
    signal.sigwait({signal.SIGTERM})
    server.stop(5).wait()
else:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = look()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    signal.sigwait({signal.SIGTERM})
    server.shutdown()
"""


def _answer(scheme: str) -> bytes:
    if scheme == "http":
        outputs = {"probabilities": np.eye(10)[[5]].tolist(), "digits": [5]}
        return json.dumps({"outputs": outputs}).encode()
    response = messages.PredictResponse()
    rows = response.outputs["probabilities"]
    rows.dtype = 1
    shape = messages.TensorShape()
    for size in (1, 10):
        shape.dim.add(size=size)
    rows.tensor_shape = shape.SerializeToString()
    rows.tensor_content = np.eye(10, dtype="<f4")[5].tobytes()
    return bytes(response.SerializeToString())


class Process:
    """A server, and another on the same port after `restart`."""

    def __init__(self, scheme: str) -> None:
        self._scheme, self.port = scheme, free_ports(1)[0]
        self.start()

    def start(self) -> None:
        arguments = [self._scheme, str(self.port), _answer(self._scheme).hex()]
        command = [sys.executable, "-c", SERVER, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def wait_until_in_use(self) -> None:
        assert self._line() == "in use\n"

    def restart(self, how: signal.Signals) -> None:
        self.stop(how)
        self.start()

    def stop(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(params=["grpc", "http"])
def servers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[Process]]]:
    monkeypatch.setattr(endpoints, "_LONGEST_REST", 0.5)  # else the tests wait for the probes
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(2):
            processes.append(Process(request.param))
            stack.callback(processes[-1].stop, signal.SIGKILL)
        hosts = ",".join(f"127.0.0.1:{process.port}" for process in processes)
        yield f"{request.param}://{hosts}", processes


def _restart_one_after_the_other(processes: list[Process], how: signal.Signals) -> None:
    for process in processes:
        process.wait_until_in_use()
    for process in processes:
        process.restart(how)
        process.wait_until_in_use()


POLICY = Policy(timeout=30, longest_wait=0.5)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
def test_threads_see_nothing_of_a_rolling_restart(
    servers: tuple[str, list[Process]], how: signal.Signals
) -> None:
    url, processes = servers
    done = threading.Event()
    failures: list[BaseException] = []
    with DigitClient(url, policy=POLICY) as digits:

        def ask() -> None:
            while not done.is_set():
                try:
                    assert digits.classify(IMAGE).digits.tolist() == [5]
                except BaseException as error:
                    failures.append(error)

        callers = [threading.Thread(target=ask) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            _restart_one_after_the_other(processes, how)
        finally:
            done.set()
            for caller in callers:
                caller.join()
    assert failures == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
def test_coroutines_see_nothing_of_a_rolling_restart(
    servers: tuple[str, list[Process]], how: signal.Signals
) -> None:
    url, processes = servers

    async def run() -> None:
        async with AsyncDigitClient(url, policy=POLICY) as digits:
            restarts = asyncio.create_task(
                asyncio.to_thread(_restart_one_after_the_other, processes, how)
            )

            async def ask() -> None:
                while not restarts.done():
                    assert (await digits.classify(IMAGE)).digits.tolist() == [5]

            async with asyncio.TaskGroup() as callers:
                for _ in range(CALLERS):
                    callers.create_task(ask())
            await restarts

    asyncio.run(run())
