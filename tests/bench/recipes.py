"""The recipes against one another: `make bench-export`.

Each run is the command as it is typed, on the genuine MNIST; for each seed the recipes run one
after the other. Prints a table in Markdown and draws `export/figures/recipes.svg`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from export.figures.svg import save
from export.progress import say
from tests.conftest import real_mnist

SEEDS = {"reference": range(5), "fast": range(5), "best": range(3)}
COLOURS = {"reference": "#9ca3af", "fast": "#2563eb", "best": "#16a34a"}


@dataclass(frozen=True)
class Run:
    """One run: accuracies; seconds of training, of the whole command, and of processors in it."""

    accuracy: float
    validation: float
    training: float
    command: float
    processors: float


def main() -> None:
    """Run all, and tell."""
    runs: dict[str, list[Run]] = {recipe: [] for recipe in SEEDS}
    for seed in range(max(len(seeds) for seeds in SEEDS.values())):
        for recipe, seeds in SEEDS.items():
            if seed in seeds:
                runs[recipe].append(_run(recipe, seed))
                say(f"{recipe:9}  seed {seed}  {runs[recipe][-1]}")
    print(_table(runs))
    _draw(runs)


def _run(recipe: str, seed: int) -> Run:
    with tempfile.TemporaryDirectory() as repository:
        command = [sys.executable, "-m", "export", "--json", f"--repository={repository}"]
        command += [f"--recipe={recipe}", f"--seed={seed}", f"--data={real_mnist() or 'mnist'}"]
        started, used = time.perf_counter(), _used_by_children()
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
        seconds, processors = time.perf_counter() - started, _used_by_children() - used
    card = json.loads(done.stdout)
    metrics = card["metrics"]
    return Run(
        metrics["test_accuracy"],
        metrics["validation_accuracy"],
        card["training"]["seconds"],
        seconds,
        processors,
    )


def _used_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _table(runs: dict[str, list[Run]]) -> str:
    """Means over the seeds; times against the reference's with the same seeds."""
    lines = [
        "| recipe | seeds | test accuracy (range) | validation "
        "| training | whole command | its processor time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipe, done in runs.items():
        peers = runs["reference"][: len(done)]
        accuracies = [run.accuracy for run in done]
        validation = np.mean([run.validation for run in done])
        training = _seconds([run.training for run in done], [run.training for run in peers])
        command = _seconds([run.command for run in done], [run.command for run in peers])
        processors = _seconds([run.processors for run in done], [run.processors for run in peers])
        lines.append(
            f"| `{recipe}` | {len(done)} "
            f"| {np.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f}) "
            f"| {validation:.4f} | {training} | {command} | {processors} |"
        )
    return "\n".join(lines)


def _seconds(own: list[float], peers: list[float]) -> str:
    return f"{np.mean(own):.1f} s ({np.mean(own) / np.mean(peers):.2f} ×)"


def _draw(runs: dict[str, list[Run]]) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for recipe, done in runs.items():
        errors = [100 * (1 - run.accuracy) for run in done]
        axes.plot(
            [run.processors for run in done],
            errors,
            "o",
            color=COLOURS[recipe],
            alpha=0.7,
            label=recipe,
        )
    axes.set(
        title="The same 109,386 parameters, trained three ways",
        xlabel="processor time of the whole command, seconds",
        ylabel="test images misread, %",
        xscale="log",
        ylim=(0, None),
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save(figure, "recipes.svg")


if __name__ == "__main__":
    main()
