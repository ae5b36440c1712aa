"""A registry that holds one image, of one file, in which nothing can be run."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def fake_registry() -> Iterator[str]:
    """Serve it on a loopback port; gives the image's name."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, object]:
        blobs[_digest(content)] = content
        media = f"application/vnd.docker.{kind}"
        return {"mediaType": media, "size": len(content), "digest": _digest(content)}

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    layers = [blob(gzip.compress(packed.getvalue()), "image.rootfs.diff.tar.gzip")]
    rootfs = {"type": "layers", "diff_ids": [_digest(packed.getvalue())]}
    image = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    config = blob(json.dumps(image).encode(), "container.image.v1+json")
    media = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": media, "config": config, "layers": layers}
    manifest_bytes = json.dumps(manifest).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = blobs.get(self.path.rpartition("/")[2], manifest_bytes)
            self.send_response(200)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Docker-Content-Digest", _digest(content))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"localhost:{server.server_port}/empty:1"
        finally:
            server.shutdown()
            thread.join()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
