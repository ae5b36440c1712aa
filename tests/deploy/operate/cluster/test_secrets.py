"""Keys and certificates of a cluster: the same commands, Secrets in place of files."""

from __future__ import annotations

import base64
import itertools
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.deploy.conftest import ROOT
from tests.deploy.kubernetes.api import Api, Object
from tests.deploy.kubernetes.cluster import NAMESPACE, Cluster, reached

DEADLINE = 180.0  # seconds for what takes one or two
LINE = re.compile(r'"(dk_[0-9a-f]{32})" ([a-z0-9-]+); # created \d{4}-\d\d-\d\d')


@pytest.fixture
def cluster(kubectl: str, tmp_path: Path) -> Iterator[Cluster]:
    with reached(Api(NAMESPACE), kubectl, tmp_path) as made:
        yield made


def _keys(cluster: Cluster, *arguments: str) -> str:
    return cluster.done("keys", *arguments, "--kubernetes")


def _held(cluster: Cluster, secret: str, key: str) -> bytes:
    return base64.b64decode(cluster.api.objects["secrets", secret]["data"][key])


def test_a_key_is_the_line_that_the_gateway_of_compose_reads(cluster: Cluster) -> None:
    made = [_keys(cluster, "create", name).strip() for name in ("alice", "job-7")]
    lines = _held(cluster, "gateway-keys", "keys.conf").decode().splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert [one.groups() for one in found if one] == [(made[0], "alice"), (made[1], "job-7")]
    assert cluster.api.objects["secrets", "gateway-keys"]["type"] == "Opaque"
    listed = _keys(cluster, "list")
    assert all(name in listed for name in ("alice", "job-7"))
    assert not any(key in listed for key in made)
    rotated = _keys(cluster, "rotate", "alice").strip()
    assert rotated not in made
    _keys(cluster, "revoke", "alice")
    (left,) = _held(cluster, "gateway-keys", "keys.conf").decode().splitlines()
    assert made[1] in left
    assert not Path(cluster.environment["DEPLOY_SECRETS"]).exists()


def test_what_else_the_secret_holds_stays(cluster: Cluster) -> None:
    theirs = base64.b64encode(b"a bundle").decode()
    metadata = {"name": "gateway-keys", "annotations": {"owner": "ann"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    cluster.api.put("secrets", {**secret, "data": {"client-ca.pem": theirs}})
    _keys(cluster, "create", "alice")
    found = cluster.api.objects["secrets", "gateway-keys"]
    assert found["data"].keys() == {"client-ca.pem", "keys.conf"}
    assert found["metadata"]["annotations"] == {"owner": "ann"}


def test_a_second_key_of_a_name_is_refused_with_nothing_written(cluster: Cluster) -> None:
    _keys(cluster, "create", "alice")
    before = cluster.api.objects["secrets", "gateway-keys"]
    assert "alice has a key" in cluster.refused("keys", "create", "alice", "--kubernetes")
    assert "no key is named 'bob'" in cluster.refused("keys", "revoke", "bob", "--kubernetes")
    assert cluster.api.objects["secrets", "gateway-keys"] == before


def test_writers_at_the_same_time_lose_no_key(cluster: Cluster) -> None:
    names = [f"writer-{number}" for number in range(4)]
    # Each has read the Secret before any writes it.
    _keys(cluster, "create", "first")
    together, writes = threading.Barrier(len(names)), itertools.count()
    cluster.api.before_write = lambda: next(writes) < len(names) and together.wait(DEADLINE)
    with ExitStack() as opened:
        writers = [
            opened.enter_context(cluster.typing("keys", "create", name, "--kubernetes"))
            for name in names
        ]
        said = [writer.communicate() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * len(names), said
    assert next(writes) > len(names)
    lines = _held(cluster, "gateway-keys", "keys.conf").decode().splitlines()
    held = {found[2]: found[1] for line in lines if (found := LINE.fullmatch(line))}
    assert {*held} == {"first", *names}
    assert {held[name] for name in names} == {out.strip() for out, _ in said}


def test_a_line_of_somebody_elses_is_left_alone_and_named(cluster: Cluster) -> None:
    _keys(cluster, "create", "alice")
    secret = cluster.api.objects["secrets", "gateway-keys"]
    text = _held(cluster, "gateway-keys", "keys.conf") + b"default somebody;\n"
    secret["data"]["keys.conf"] = base64.b64encode(text).decode()
    said = cluster.refused("keys", "create", "bob", "--kubernetes")
    assert f"Secret gateway-keys of namespace {NAMESPACE}, keys.conf:2 is no line of" in said


def test_the_gateways_pods_are_told_of_a_key(cluster: Cluster) -> None:
    cluster.api.deployment("gateway", 2)
    cluster.api.deployment("serving", 1)
    _keys(cluster, "create", "alice")
    told = [
        name.rpartition("-")[0]
        for (kind, name), one in cluster.api.objects.items()
        if kind == "pods" and "digits-serving/refreshed" in one["metadata"].get("annotations", {})
    ]
    assert told == ["gateway", "gateway"]


def test_a_key_is_made_even_where_pods_may_not_be_changed(cluster: Cluster) -> None:
    cluster.api.deployment("gateway", 1)
    cluster.api.forbidden.add("patch pods")
    assert _keys(cluster, "create", "alice").startswith("dk_")


def _certificate(cluster: Cluster, secret: str, key: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(_held(cluster, secret, key))


def test_a_certificate_is_signed_by_an_authority_that_stays(cluster: Cluster) -> None:
    first = cluster("certificates", "--kubernetes", "--host", "digits.example.org")
    assert first.returncode == 0, first.stderr
    assert f"gateway.{NAMESPACE}.svc" in first.stderr
    authority = _certificate(cluster, "gateway-tls", "ca.crt")
    made = _certificate(cluster, "gateway-tls", "tls.crt")
    made.verify_directly_issued_by(authority)
    key = load_pem_private_key(_held(cluster, "gateway-tls", "tls.key"), None)
    assert key.public_key() == made.public_key()
    types = [cluster.api.objects["secrets", name]["type"] for name in ("gateway-tls", "gateway-ca")]
    assert types == ["kubernetes.io/tls"] * 2
    # As an Issuer of cert-manager wants its CA; and no pod sees the authority's key.
    assert _certificate(cluster, "gateway-ca", "tls.crt") == authority
    # Again: another certificate for the same hosts, of the same authority.
    cluster.done("certificates", "--kubernetes")
    renewed = _certificate(cluster, "gateway-tls", "tls.crt")
    assert renewed != made
    renewed.verify_directly_issued_by(authority)
    names = [
        one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for one in (made, renewed)
    ]
    assert names[0] == names[1]
    assert x509.DNSName("digits.example.org") in names[0]
    assert _certificate(cluster, "gateway-tls", "ca.crt") == authority
    cluster.done("certificates", "--kubernetes", "--force")
    assert _certificate(cluster, "gateway-tls", "ca.crt") != authority


@pytest.mark.parametrize(
    ("metadata", "whose"),
    [
        ({"annotations": {"cert-manager.io/certificate-name": "gateway"}}, "Certificate gateway"),
        (
            {"ownerReferences": [{"kind": "ExternalSecret", "name": "vault"}]},
            "ExternalSecret vault",
        ),
    ],
)
def test_a_secret_that_the_cluster_writes_is_left_alone(
    metadata: Object, whose: str, cluster: Cluster
) -> None:
    theirs = {"tls.crt": base64.b64encode(b"theirs").decode(), "tls.key": ""}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": theirs}
    made = cluster.api.put("secrets", {**secret, "metadata": {"name": "gateway-tls", **metadata}})
    for force in ([], ["--force"]):
        said = cluster.refused("certificates", "--kubernetes", *force)
        assert "Secret gateway-tls" in said
        assert whose in said
    assert cluster.api.objects["secrets", "gateway-tls"] == made


def test_a_certificate_of_somebody_elses_is_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    cluster.done("certificates", DEPLOY_SECRETS=str(other))
    data = {
        key: base64.b64encode((other / "gateway" / name).read_bytes()).decode()
        for key, name in (("tls.crt", "server.pem"), ("tls.key", "server.key"))
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data}
    cluster.api.put("secrets", {**secret, "metadata": {"name": "gateway-tls"}})
    said = cluster.refused("certificates", "--kubernetes")
    assert f"Secret gateway-tls of namespace {NAMESPACE}, tls.crt was not made here" in said


def test_keys_and_authority_of_a_machine_move_as_the_readme_says(
    cluster: Cluster, tmp_path: Path
) -> None:
    page = (ROOT / "deploy" / "kubernetes" / "README.md").read_text()
    (typed,) = re.findall(r"^```\n(kubectl create secret .*?)^```$", page, re.M | re.S)
    (tmp_path / "deploy" / "secrets" / "gateway").mkdir(parents=True)
    here = {"DEPLOY_SECRETS": str(tmp_path / "deploy" / "secrets")}
    cluster.done("certificates", "--host=digits.example.org", **here)
    key = cluster.done("keys", "create", "alice", GATEWAY_PORT="1", **here).strip()
    create, _, certificates = typed.replace("\\\n", "").partition("python -m deploy ")
    # kubectl sends what it makes of files as protobuf, and what it reads as JSON.
    as_json = " --dry-run=client --output=json | kubectl create --validate=false --filename=-"
    subprocess.run(
        ["bash", "-ec", re.sub("$", as_json, create.strip(), flags=re.M)],
        cwd=tmp_path,
        env=cluster.environment,
        check=True,
        timeout=DEADLINE,
    )
    cluster.done(*certificates.split())
    assert key in _held(cluster, "gateway-keys", "keys.conf").decode()
    trusted = (tmp_path / "deploy" / "secrets" / "gateway" / "ca.pem").read_bytes()
    assert _held(cluster, "gateway-tls", "ca.crt") == trusted
    made = _certificate(cluster, "gateway-tls", "tls.crt")
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(trusted))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"digits.example.org", f"gateway.{NAMESPACE}"} <= {
        *names.get_values_for_type(x509.DNSName)
    }
