"""The keys and certificates of a cluster: the Secrets that the gateway's pods mount."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.operate.access.store import (
    AUTHORITY,
    AUTHORITY_KEY,
    CERTIFICATE,
    KEYS,
    LOCAL,
    PRIVATE_KEY,
    Result,
)
from deploy.operate.cluster.kubectl import LABELS, Conflict, Kubectl, Object
from deploy.operate.errors import Refused

GATEWAY = "gateway"
GATEWAY_KEYS, GATEWAY_TLS = "gateway-keys", "gateway-tls"
# In the form that an Issuer of cert-manager needs for its CA; no pod mounts it.
GATEWAY_CA = "gateway-ca"
_TRIES = 20  # attempts, while others write at the same time
_TYPES = {
    GATEWAY_KEYS: "Opaque",
    GATEWAY_TLS: "kubernetes.io/tls",
    GATEWAY_CA: "kubernetes.io/tls",
}
# File → Secrets and their keys with this file; it is read from the first.
_PLACES = {
    KEYS: [(GATEWAY_KEYS, KEYS)],
    AUTHORITY_KEY: [(GATEWAY_CA, "tls.key")],
    AUTHORITY: [(GATEWAY_CA, "tls.crt"), (GATEWAY_TLS, "ca.crt")],
    PRIVATE_KEY: [(GATEWAY_TLS, "tls.key")],
    CERTIFICATE: [(GATEWAY_TLS, "tls.crt")],
}
_CERT_MANAGER = "cert-manager.io/certificate-name"


@dataclass
class Secrets:
    """The Secrets of a namespace as a `Store`; each is written only if no one else has."""

    kubectl: Kubectl
    _read: dict[str, Object | None] = field(default_factory=dict)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        secret, key = _PLACES[name][0]
        data = (self._secret(secret) or {}).get("data") or {}
        return base64.b64decode(data[key]) if key in data else None

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace these files.

        Raises:
            Conflict: another has written a Secret since it was read.
            Refused: as `Kubectl.run`.
        """
        changes: dict[str, dict[str, str]] = {}
        for name, content in files.items():
            for secret, key in _PLACES[name]:
                changes.setdefault(secret, {})[key] = base64.b64encode(content).decode()
        for secret, changed in changes.items():
            found = self._secret(secret) or _new(secret)
            data = {**(found.get("data") or {}), **changed}
            self._read[secret] = self.kubectl.write({**found, "data": data})
        with contextlib.suppress(Refused, Conflict):  # otherwise they are seen a little later
            self.kubectl.refresh(GATEWAY)

    def called(self, name: str) -> str:
        """The Secret, and its key."""
        secret, key = _PLACES[name][0]
        return f"Secret {secret} of namespace {self.kubectl.namespace}, {key}"

    def hosts(self) -> Sequence[str]:
        """The names of the gateway's Service, and of a forwarded port."""
        service = f"{GATEWAY}.{self.kubectl.namespace}"
        return (*LOCAL, GATEWAY, service, f"{service}.svc", f"{service}.svc.cluster.local")

    def how_to_trust(self) -> Sequence[str]:
        """Examples with kubectl; pods mount the file."""
        get = " ".join(self.kubectl.command("get", "secret", GATEWAY_TLS))
        return (
            f"{get} --output=jsonpath='{{.data.ca\\.crt}}' | base64 -d >ca.pem",
            'DigitClient("grpcs://…:8443", api_key=…, tls=Tls(ca="ca.pem"))',
        )

    def alone(self, work: Callable[[], Result], *names: str) -> Result:
        """Run `work`, and again if another has written meanwhile.

        Raises:
            Refused: cert-manager or another controller would overwrite it, or others keep changing
                it.
        """
        for _ in range(_TRIES):
            self._read.clear()
            for name in names:
                self._refuse_managed(_PLACES[name][0][0])
            try:
                return work()
            except Conflict as conflict:
                last = conflict
        raise Refused(f"others change it at the same time ({last}); try again")

    def _refuse_managed(self, secret: str) -> None:
        metadata = (self._secret(secret) or {}).get("metadata", {})
        if certificate := metadata.get("annotations", {}).get(_CERT_MANAGER):
            raise Refused(
                f"Secret {secret} is cert-manager's, of Certificate {certificate}, and would be "
                "overwritten: change that, or delete it and then the Secret"
            )
        for owner in metadata.get("ownerReferences", []):
            raise Refused(
                f"Secret {secret} belongs to {owner['kind']} {owner['name']}, and would be "
                "overwritten: change that, or delete it and then the Secret"
            )

    def _secret(self, name: str) -> Object | None:
        if name not in self._read:
            self._read[name] = self.kubectl.read("secret", name)
        return self._read[name]


def _new(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": LABELS},
        "type": _TYPES[name],
    }
