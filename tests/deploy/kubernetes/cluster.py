"""`python -m deploy … --kubernetes` against an API of a test's own, by the real kubectl."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.conftest import ROOT
from tests.deploy.kubernetes.api import Api, answering

NAMESPACE = "digits"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The API, and how a command finds it."""

    api: Api
    environment: Mapping[str, str]

    def __call__(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        with self.typing(*arguments, **changed) as process:
            out, err = process.communicate()
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextlib.contextmanager
    def typing(self, *arguments: str, **changed: str) -> Iterator[subprocess.Popen[str]]:
        """A command, while it runs."""
        with subprocess.Popen(
            [sys.executable, "-m", "deploy", *arguments],
            cwd=self.environment.get("ROOT", ROOT),
            env={**self.environment, **changed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            yield process

    def done(self, *arguments: str, **changed: str) -> str:
        """What a command answers that has to succeed."""
        done = self(*arguments, **changed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, status: int = 1, **changed: str) -> str:
        """The sentence with which a command ends that has to fail."""
        done = self(*arguments, **changed)
        assert done.returncode == status, done.stderr
        assert done.stdout == ""
        return done.stderr.splitlines()[-1]


@contextlib.contextmanager
def reached(api: Api, kubectl: str, folder: Path) -> Iterator[Cluster]:
    """Let kubectl, of a folder, find that API; `folder` is an empty one."""
    with answering(api, folder) as kubeconfig:
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([kubectl, os.environ["PATH"]]),
            "KUBECONFIG": str(kubeconfig),
            "KUBECACHEDIR": str(folder / "cache"),
            # Nothing of this machine's is to be read or written.
            "DEPLOY_SECRETS": str(folder / "no-secrets"),
        }
        yield Cluster(api, environment)
