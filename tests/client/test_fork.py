"""Forks, each in a process of its own: a fork of the tests' process would prove little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.conftest import Server

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, os, signal, sys, time
import numpy as np
from tfserving_client import AsyncDigitClient, DigitClient, Policy, Unreachable

url, kind, before = sys.argv[1:]
image = np.full((28, 28), 5, np.uint8)
policy = Policy(attempts=1, timeout=20)
runner = asyncio.Runner()
digits = (DigitClient if kind == "threads" else AsyncDigitClient)(url, policy=policy)

def ask(digits, runner=runner):
    try:
        answer = digits.classify(image)
        return str((answer if kind == "threads" else runner.run(answer)).digits[0])
    except Unreachable as error:
        return error.server_text.split(":")[0]

def end(digits, runner=runner):
    closing = digits.close()
    if kind == "asyncio":
        runner.run(closing)

if before != "unused":
    ask(digits)
    time.sleep(0.5)  # while one of its threads is still busy, gRPC does not prepare for a fork
if before == "closed":
    end(digits)
    digits = type(digits)(url, policy=policy)
child = os.fork()
if child == 0:
    signal.alarm(10)
    theirs = asyncio.Runner()
    print("child", ask(digits, theirs), flush=True)
    end(digits, theirs)
    os._exit(0)
_, status = os.waitpid(child, 0)
print("exit", status, "parent", ask(digits), flush=True)
end(digits)
runner.close()
"""
FORKED = "this process was forked after gRPC was used, which gRPC does not survive"


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
@pytest.mark.parametrize(
    ("scheme", "before", "supported", "child"),
    [
        ("http", "unused", "0", "5"),
        ("http", "used", "0", "5"),
        ("grpc", "unused", "0", "5"),
        ("grpc", "closed", "0", FORKED),
        ("grpc", "used", "0", FORKED),
        ("grpc", "used", "1", "5"),
    ],
    indirect=["scheme"],
)
def test_a_client_made_before_a_fork_works_in_both_or_says_why_not(
    server: Server, scheme: str, kind: str, before: str, supported: str, child: str
) -> None:
    if kind == "asyncio" and scheme == "grpc" and before != "unused":
        child = FORKED  # gRPC's fork support does not cover asyncio
    server.see()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, server.url, kind, before],
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": supported},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == (f"child {child}\nexit 0 parent 5\n", 0), done.stderr
