"""`bench`: put load on a server, and report the result."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

from tfserving_client.command.connection import settings
from tfserving_client.command.pictures import paths
from tfserving_client.command.progress import Progress


def bench(options: argparse.Namespace) -> int:
    """Ask as fast, or as often, as the options say, and report; the exit status."""
    import asyncio

    from tfserving_client import AsyncDigitClient, InvalidInput, Policy
    from tfserving_client.command import load, load_report

    images, source = _bench_images(options)
    requests = cycle(load.batches(images, options.batch))
    loop = f"{options.callers} callers in a closed loop"
    if options.rate:
        loop = f"{options.rate:g} requests/s in an open loop ({options.arrivals})"
    title = f"{loop} for {options.duration:g} s, each {options.batch} of {source}, {options.url}"
    if options.picture:
        path = Path(options.picture)  # rather now than after the run
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InvalidInput(f"{options.picture!r} cannot be written")

    async def run() -> list[load.Sample]:
        # An attempt that is made again would be measured as one slow request.
        policy = Policy(timeout=options.timeout, attempts=1)
        async with AsyncDigitClient(**settings(options), policy=policy) as digits:

            async def call() -> None:
                await digits.classify(next(requests), version=options.version, label=options.label)

            await call()  # connects, and fails here if there is nothing to measure
            with Progress(lambda s: f"{s:.0f} of {options.duration:g} s"):
                if options.rate is None:
                    return await load.closed_loop(call, options.callers, options.duration)
                seed = options.seed if options.arrivals == "poisson" else None
                due = load.arrivals(options.rate, options.duration, seed)
                return await load.open_loop(call, due, options.in_flight)

    report = load.report(
        asyncio.run(run()), seconds=options.duration, batch=options.batch, asked=options.rate
    )
    text = [title, *load_report.as_lines(report)]
    print(json.dumps({"title": title, **asdict(report)}) if options.json else "\n".join(text))
    if options.picture:
        Path(options.picture).write_text(load_report.as_svg(report, title), encoding="utf-8")
    return 1 if report.errors else 0


def _bench_images(options: argparse.Namespace) -> tuple[Any, str]:
    """Images to send, and in words what they are."""
    import numpy as np

    from tfserving_client import InvalidInput
    from tfserving_client.command import load

    if options.images is None:
        return load.noise(1000, options.seed), f"1,000 noise images (seed {options.seed})"
    try:
        if not options.images.endswith(".npz"):
            files = [Path(path).read_bytes() for path in paths(options.images)]
            return files, f"{len(files):,} pictures"
        with np.load(options.images) as arrays:
            # MNIST's own archive has labels, too, and its test images come first by name.
            for name in sorted(arrays.files):
                if (images := arrays[name]).ndim > 1 and len(images):
                    return images, f"{len(images):,} images ({name})"
    except Exception as error:  # a bad .npz has many
        raise InvalidInput(f"{options.images!r} cannot be read: {error}") from None
    raise InvalidInput(f"{options.images!r} holds no images")
