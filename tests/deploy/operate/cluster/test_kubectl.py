"""What an operator is told when the cluster does not do what is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.kubernetes.api import Api
from tests.deploy.kubernetes.cluster import NAMESPACE, Cluster, reached

CREATE = ("keys", "create", "alice", "--kubernetes")
LIST = ("keys", "list", "--kubernetes")


@pytest.fixture
def cluster(kubectl: str, tmp_path: Path) -> Iterator[Cluster]:
    with reached(Api(NAMESPACE), kubectl, tmp_path) as made:
        yield made


def test_without_kubectl(cluster: Cluster, tmp_path: Path) -> None:
    said = cluster.refused(*CREATE, PATH=str(tmp_path))
    assert said.startswith("python -m deploy: kubectl is not installed")
    assert "https://kubernetes.io/docs/tasks/tools/" in said


def test_without_a_cluster(cluster: Cluster, tmp_path: Path, closed_port: int) -> None:
    for config in ("", f"http://127.0.0.1:{closed_port}"):
        kubeconfig = Path(cluster.environment["KUBECONFIG"]).read_text()
        path = tmp_path / "other"
        path.write_text(re.sub(r"http://[\d.:]+", config, kubeconfig) if config else "")
        said = cluster.refused(*CREATE, KUBECONFIG=str(path))
        assert said.startswith("python -m deploy: no cluster is reached: ")
        assert "`kubectl config get-contexts`" in said


def test_of_a_context_that_kubectl_does_not_know(cluster: Cluster) -> None:
    said = cluster.refused(*CREATE, "--context=nosuch")
    assert "context was not found for specified context: nosuch" in said
    assert "choose one with --context" in said


@pytest.mark.parametrize("command", [CREATE, LIST])
def test_in_a_namespace_that_is_not_there(command: tuple[str, ...], cluster: Cluster) -> None:
    said = cluster.refused(*command, "--namespace=nosuch")
    assert "the cluster has no namespace 'nosuch'; `kubectl create namespace nosuch`" in said


def test_a_namespace_that_may_not_be_looked_at_is_as_good(cluster: Cluster) -> None:
    cluster.api.forbidden.add("get namespaces")
    assert cluster.done(*LIST) == ""


@pytest.mark.parametrize("verb", ["get", "create"])
def test_what_is_forbidden(verb: str, cluster: Cluster) -> None:
    cluster.api.forbidden.add(f"{verb} secrets")
    said = cluster.refused(*CREATE)
    assert f'User "ann" cannot {verb} resource "secrets"' in said
    assert "a role that may" in said


def test_a_part_of_a_cluster_without_a_cluster_is_bad_usage(cluster: Cluster) -> None:
    for option in ("--namespace=x", "--context=x"):
        assert "--kubernetes" in cluster.refused("keys", "list", option, status=2)
