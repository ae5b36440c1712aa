"""A namespace of the operator's cluster, through `kubectl`.

It uses the operator's contexts, logins and plugins, which a library would not all support.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.operate.errors import Refused

Object = dict[str, Any]

LABELS = {"app.kubernetes.io/part-of": "digits-serving"}
_TIMEOUT = 30  # seconds for one request to the cluster
_REFRESHED = "digits-serving/refreshed"
_FROM_SERVER = re.compile(r"Error from server \((?P<reason>\w+)\): (?P<message>.*)", re.DOTALL)
_LOG_LINE = re.compile(r"[IWEF]\d{4} .*")  # log lines of kubectl, before the error itself


class Conflict(Exception):
    """Another writer has created or changed the object since it was read."""


@dataclass(frozen=True)
class Kubectl:
    """A namespace of a cluster.

    Attributes:
        named: the requested namespace; None: the context's.
        context: of the kubeconfig; None: the current one.
    """

    named: str | None = None
    context: str | None = None

    @functools.cached_property
    def namespace(self) -> str:
        """The name of the namespace."""
        view = ("config", "view", "--minify", "--output=jsonpath={..namespace}")
        return self.named or self.run(*view).strip() or "default"

    def run(self, *arguments: str, given: str | None = None) -> str:
        """Run to the end and return its standard output.

        Args:
            arguments: of `kubectl`.
            given: standard input.

        Raises:
            Conflict: another writer has created or changed the object.
            Refused: everything else, in a sentence that says what to do.
        """
        try:
            done = subprocess.run(
                self.command(*arguments, f"--request-timeout={_TIMEOUT}s"),
                input=given,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise Refused(_MISSING) from None
        if done.returncode:
            raise self._failure(done.stderr)
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """The command line to run."""
        which = {"namespace": self.named, "context": self.context}
        options = [f"--{name}={value}" for name, value in which.items() if value]
        return ["kubectl", *options, *arguments]

    def read(self, kind: str, name: str) -> Object | None:
        """An object; None if there is none in the namespace.

        Raises:
            Refused: there is no such namespace, or as `run`.
        """
        found = self.run("get", kind, name, "--ignore-not-found", "--output=json")
        if found:
            read: Object = json.loads(found)
            return read
        self._expect_namespace()
        return None

    def pods(self, deployment: str) -> list[Object]:
        """The pods of a Deployment; none without it."""
        if (selector := self._selector(deployment)) is None:
            return []
        read = self.run("get", "pods", f"--selector={selector}", "--output=json")
        pods: list[Object] = json.loads(read)["items"]
        return pods

    def write(self, changed: Mapping[str, Any]) -> Object:
        """Create an object, or replace the one that was read; returns the result.

        Raises:
            Conflict: it has changed since it was read, or exists already.
        """
        verb = "replace" if "resourceVersion" in changed["metadata"] else "create"
        given = json.dumps(changed)
        written: Object = json.loads(
            self.run(verb, "--filename=-", "--validate=false", "--output=json", given=given)
        )
        return written

    def refresh(self, deployment: str) -> None:
        """Make the pods see changed ConfigMaps and Secrets at once, not within two minutes.

        A kubelet looks at the volumes of a pod when anything about the pod changes:
        https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/
        """
        if pods := [pod["metadata"]["name"] for pod in self.pods(deployment)]:
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
            self.run("annotate", "--overwrite", "pods", *pods, f"{_REFRESHED}={now}")

    @functools.cache  # noqa: B019 (a command makes one of these); it never changes
    def _selector(self, deployment: str) -> str | None:
        """What picks the pods of a Deployment."""
        if (found := self.read("deployment", deployment)) is None:
            return None
        labels = found["spec"]["selector"]["matchLabels"]
        return ",".join(f"{name}={value}" for name, value in labels.items())

    def _expect_namespace(self) -> None:
        try:
            found = self.run("get", "namespace", self.namespace, "--ignore-not-found")
        except Refused:  # a user of a namespace may lack the right to read it
            return
        if not found:
            raise Refused(self._no_namespace(self.namespace))

    def _no_namespace(self, name: str) -> str:
        return (
            f"the cluster has no namespace {name!r}; `kubectl create namespace {name}` makes it, "
            "or choose another with --namespace"
        )

    def _failure(self, said: str) -> Exception:
        lines = [line for line in said.splitlines() if line and not _LOG_LINE.fullmatch(line)]
        last = "\n".join(lines).strip() or "kubectl failed"
        found = _FROM_SERVER.search(last)
        reason, message = found.group("reason", "message") if found else ("", last)
        message = " ".join(message.split())
        if reason in ("Conflict", "AlreadyExists"):
            return Conflict(message)
        if missing := re.search(r'namespaces "(\S+)" not found', message):
            return Refused(self._no_namespace(missing[1]))
        if reason == "Forbidden":
            return Refused(
                f"the cluster does not allow this: {message}; ask its administrator for a role "
                "that may, or choose another --namespace or --context"
            )
        if "logged in" in message or reason == "Unauthorized":
            return Refused(f"the cluster does not know you: {message}; log in to it again")
        if reason or last.startswith("error: the server doesn't have"):
            return Refused(f"the cluster refused: {message}")
        return Refused(
            f"no cluster is reached: {message.removeprefix('error: ')}; `kubectl config "
            "get-contexts` lists those that kubectl knows; choose one with --context"
        )


_MISSING = (
    "kubectl is not installed, but a cluster is reached through it; "
    "https://kubernetes.io/docs/tasks/tools/ says how to install it"
)
