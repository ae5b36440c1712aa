"""Whether `capacity` predicts what replicas do: its p99 against that of real load on one to three.

Replicas are `python -m deploy.local` behind this machine's nginx with the committed files. They
serve a model that waits as long as a device would compute, a batch at a time, and leaves the CPU
alone, so that three of them on few cores are as good as three machines; and then, on one, the
newest version under `models/mnist`. The prediction comes from what `tune` measures of a replica,
without the gateway. Prints a table in Markdown, the ratio the larger of the two p99 over the
smaller; exit status 1 if a limit is missed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.release import capacity, golden, load, measures, tune
from deploy.runner import THREADS, Server, free_ports
from tests.bench.paired import Row, tell
from tests.deploy.gateway import running
from tfserving_client import ServingClient

LIMIT = 1.3
REPLICAS = 3
BUSY = (0.5, 0.75)
# Of each row. At 75 % busy the requests of a busy period wait together, so the p99 of a
# thousand still varies by a fifth.
REQUESTS = 6_000
SECONDS = 3  # of each load that measures a replica
ALONE, BATCHES = (9_000, 1_000), (20_000, 4_000)  # µs of a batch, and more for each row of it


def save_device(folder: Path, fixed: int, each: int) -> None:
    """A version of a model that waits for a device that is not there, and gives back its input."""
    import tensorflow as tf  # here, since every process that asks imports this module

    from tests.device import wait

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def compute(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": wait(x, fixed + each * tf.size(x))}

    module = tf.Module()
    tf.saved_model.save(module, str(folder), {"serving_default": compute})


@dataclass(frozen=True)
class Stack:
    """Replicas of a model behind a gateway, which is a server to who asks it."""

    model: str
    answers: Mapping[str, golden.Answers]
    replicas: Sequence[Server]
    gateway: Server


def main() -> int:
    """Measure, and tell."""
    return tell(_rows())


def _rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = np.zeros(5, np.float32)
        answers = {"serving_default": golden.Answers({"x": inputs}, {"y": inputs}, 0.0)}
        kinds = ((1, "one by one", ALONE), (32, "in batches", BATCHES))
        for rows, how, micros in kinds:
            device = folder / how / "device"
            save_device(device / "1", *micros)
            batching = folder / "batching.config"
            batching.write_text(
                f"max_batch_size {{ value: {rows} }}\nbatch_timeout_micros {{ value: 0 }}\n"
                "num_batch_threads { value: 1 }\nmax_enqueued_batches { value: 10000 }\n"
            )
            flags = ["--enable_batching", f"--batching_parameters_file={batching}"]
            for replicas in range(1, REPLICAS + 1):
                with _stack(device, answers, replicas, flags) as stack:
                    yield from _loads(f"a device, {how}", stack, LIMIT)
    versions = Path("models/mnist")
    newest = max(versions.glob("[0-9]*"), key=lambda path: int(path.name))
    with _stack(versions, golden.read(newest), 1, []) as stack:
        # No limit: gateway and callers take from the same cores what the replica was measured with.
        yield from _loads("mnist on the CPU", stack, None)
        yield _cpu_time(stack)


def _loads(kind: str, stack: Stack, limit: float | None) -> Iterator[Row]:
    """Loads that keep the replicas busy to a share, against what is predicted of them."""
    service = tune.measured(stack.replicas[0], stack.model, stack.answers, SECONDS, "")
    count = len(stack.replicas)
    for busy in BUSY:
        rate = busy * count * service.requests_per_second
        predicted = capacity.p99(service, rate, count)
        found = _probe(stack, rate, REQUESTS / rate)
        yield Row(
            f"{kind}: p99 of {count} replicas at {rate:.0f}/s, {busy:.0%} busy",
            f"{predicted:.1f} ms",
            f"{found.p99:.1f} ms, sent late by {found.late:.1f}",
            max(predicted / found.p99, found.p99 / predicted),
            limit,
            at_most=True,
        )


def _cpu_time(stack: Stack) -> Row:
    """What a request takes of the CPU at the gateway, and at the replica behind it."""
    processes = stack.gateway.process.pid, stack.replicas[0].process.pid
    before = [_cpu_seconds(process) for process in processes]
    _probe(stack, 100, SECONDS)
    gateway, replica = (
        1e6 * (_cpu_seconds(process) - was) / (100 * SECONDS)
        for process, was in zip(processes, before, strict=True)
    )
    figure = "mnist: µs of CPU a request takes at the gateway and at the replica"
    return Row(figure, f"{gateway:.0f}", f"{replica:.0f}", gateway / replica, None)


def _probe(stack: Stack, rate: float, seconds: float) -> load.Probe:
    asked = tune.requests(stack.gateway, stack.model, stack.answers)
    with load.generator(asked) as asking:
        return asking.probe(stack.gateway.grpc_url.removeprefix("grpc://"), rate, seconds)


def _cpu_seconds(process: int | str) -> float:
    """Of a process and its children, so far."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ticks = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return ticks + sum(map(_cpu_seconds, children))


@contextlib.contextmanager
def _stack(
    versions: Path, answers: Mapping[str, golden.Answers], replicas: int, flags: Sequence[str]
) -> Iterator[Stack]:
    """So many servers of the versions in a folder, each at an address of its own."""
    name = versions.name
    grpc_port, rest_port = free_ports(2)
    addresses = [f"127.0.0.{i + 1}" for i in range(replicas)]
    command = [sys.executable, "-m", "deploy.local", f"--port={grpc_port}"]
    command += [f"--rest_api_port={rest_port}", f"--model_name={name}"]
    command += [f"--model_base_path={versions.resolve()}", THREADS, *flags]
    command += [f"--{flag}={path}" for flag, path in measures.FLAGS.items()]
    with contextlib.ExitStack() as opened:
        servers = []
        for address in addresses:
            process = subprocess.Popen([*command, f"--host={address}"], stderr=subprocess.DEVNULL)
            opened.callback(process.wait)
            opened.callback(process.terminate)
            urls = f"grpc://{address}:{grpc_port}", f"http://{address}:{rest_port}"
            servers.append(Server(*urls, " ".join(command), process))
        for server in servers:
            with ServingClient(server.rest_url, model=name) as serving:
                serving.wait_until_ready(timeout=180)
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        gateway = opened.enter_context(running(folder, addresses, (grpc_port, rest_port)))
        urls = f"grpc://127.0.0.1:{gateway.grpc_port}", f"http://127.0.0.1:{gateway.rest_port}"
        yield Stack(name, answers, servers, Server(*urls, "", gateway.process))


if __name__ == "__main__":
    sys.exit(main())
