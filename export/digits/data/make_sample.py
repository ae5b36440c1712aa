"""Make the embedded sample again, `python -m export.digits.data.make_sample MNIST.npz`.

The file is MNIST as Keras distributes it; its contents are verified before anything is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.digits.data import sample, sources
from export.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 made, 2 bad usage or input."""
    parser = argparse.ArgumentParser(
        prog="python -m export.digits.data.make_sample",
        description="Make the sample of MNIST that ships with this repository.",
    )
    parser.add_argument("mnist", type=Path, metavar="MNIST.npz", help="MNIST, as Keras has it")
    parser.add_argument("--to", type=Path, default=sample.PATH, metavar="PATH")
    options = parser.parse_args(arguments)
    try:
        with options.mnist.open("rb") as file:
            mnist = sources.verified_mnist(file, str(options.mnist))
        sample.write(
            options.to,
            {
                "x_train": np.concatenate([mnist.train.images, mnist.validation.images]),
                "y_train": np.concatenate([mnist.train.labels, mnist.validation.labels]),
                "x_test": mnist.test.images,
                "y_test": mnist.test.labels,
            },
        )
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(options.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
