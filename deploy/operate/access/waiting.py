"""Wait until the gateway of this machine has loaded a change.

Separate from `keys`, so that modules which only read the file need no network libraries.
"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request

from deploy.operate.access.secret_files import gateway

_PATIENCE = 5.0  # seconds


def wait_until_known(key: str, port: int) -> None:
    """Return when the gateway at a port of this machine accepts a key, or cannot be asked."""
    request = urllib.request.Request(
        f"https://localhost:{port}/models.json", headers={"x-api-key": key}
    )
    end = time.monotonic() + _PATIENCE
    try:
        trusted = ssl.create_default_context(cafile=gateway() / "ca.pem")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        )
        while time.monotonic() < end:
            try:
                opener.open(request, timeout=_PATIENCE).close()
                return
            except urllib.error.HTTPError as refusal:
                with refusal:
                    if refusal.code != 401:
                        return
            time.sleep(0.1)
    except OSError:  # none runs, or its certificate is from another authority
        return
