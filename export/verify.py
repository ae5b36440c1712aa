"""`python -m export.verify`: is every file of the published versions as it was published?

Exit status: 0 all are, 1 something was changed, 2 bad usage or a folder that cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export.errors import InputError
from export.progress import say
from export.publication import manifest
from export.publication.repository import Repository


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _verify(Repository(options.repository, options.name), options.versions)
    except (InputError, OSError) as error:
        say(f"python -m export.verify: {error}")
        return 2


def _verify(repository: Repository, wanted: Sequence[int]) -> int:
    """Print a line for each version that is whole, and one for each file that is not."""
    versions, digests = repository.versions(), repository.digests()
    if missing := set(wanted) - versions.keys():
        raise InputError(f"{repository.folder} has no version {min(missing)}")
    if not versions:
        raise InputError(f"{repository.folder} has no version")
    status = 0
    for version in wanted or sorted(versions):
        digest = digests.get(version)
        found = (
            manifest.differences(versions[version], digest)
            if digest
            else [f"{repository.ledger} does not say what was published"]
        )
        for sentence in found:
            print(f"version {version}: {sentence}")
        if not found:
            print(f"version {version}: whole")
        status = max(status, int(bool(found)))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.verify",
        description="Hold published versions against what was written down when they were made.",
    )
    parser.add_argument("--repository", type=Path, default=Path("models"), metavar="PATH")
    parser.add_argument("--name", default="mnist")
    parser.add_argument(
        "versions", nargs="*", type=int, metavar="N", help="versions to look at (default: all)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
