"""Counters and histograms, printed as TensorFlow Serving prints them for Prometheus.

The names begin with a colon and the counters lack `_total`; prometheus_client prints neither.
"""

import bisect
import itertools
import threading
from collections.abc import Iterator, Sequence

PATH = "/monitoring/prometheus/metrics"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Metric:
    """A name, label names, and numbers for each combination of label values."""

    kind = ""

    def __init__(self, name: str, labels: Sequence[str] = ()) -> None:
        self.name = f":tensorflow:{name}"
        self._labels = tuple(labels)
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], list[float]] = {}
        _registry.append(self)

    def _key(self, labels: dict[str, str]) -> tuple[str, ...]:
        if labels.keys() != set(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, not {tuple(labels)}")
        return tuple(labels[label] for label in self._labels)

    def lines(self) -> list[str]:
        """The metric in the text format."""
        with self._lock:
            cells = sorted((key, list(cell)) for key, cell in self._cells.items())
        lines = [f"# TYPE {self.name} {self.kind}"]
        for key, cell in cells:
            pairs = zip(self._labels, key, strict=True)
            lines += self._cell_lines([f'{k}="{v.translate(_ESCAPES)}"' for k, v in pairs], cell)
        return lines

    def _cell_lines(self, labels: list[str], cell: list[float]) -> Iterator[str]:
        raise NotImplementedError


_registry: list[_Metric] = []


class Counter(_Metric):
    """A number that only grows."""

    kind = "counter"

    def increment(self, by: int = 1, **labels: str) -> None:
        """Add to the cell with these labels."""
        key = self._key(labels)
        with self._lock:
            self._cells.setdefault(key, [0])[0] += by

    def _cell_lines(self, labels: list[str], cell: list[float]) -> Iterator[str]:
        yield f"{self.name}{{{','.join(labels)}}} {cell[0]:.0f}"


class Histogram(_Metric):
    """How many values fell below each of some bounds."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, labels)
        self._bounds = tuple(bounds)

    def observe(self, value: float, **labels: str) -> None:
        """Count a value in the cell with these labels."""
        key = self._key(labels)
        with self._lock:
            # One count for each bucket, one for what lies above them all, and the sum.
            cell = self._cells.setdefault(key, [0] * (len(self._bounds) + 2))
            # TensorFlow's buckets do not hold their upper bound.
            cell[bisect.bisect_right(self._bounds, value)] += 1
            cell[-1] += value

    def _cell_lines(self, labels: list[str], cell: list[float]) -> Iterator[str]:
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        for bound, count in zip(bounds, itertools.accumulate(cell[:-1]), strict=True):
            le = f'le="{bound}"'
            yield f"{self.name}_bucket{{{','.join([*labels, le])}}} {count:.0f}"
        yield f"{self.name}_sum{{{','.join(labels)}}} {cell[-1]:g}"
        yield f"{self.name}_count{{{','.join(labels)}}} {sum(cell[:-1]):.0f}"


def exponential(first: float, growth: float, count: int) -> list[float]:
    """Bounds, each `growth` times the one before."""
    return [first * growth**power for power in range(count)]


def page() -> str:
    """Every metric in Prometheus's text format."""
    metrics = sorted(_registry, key=lambda metric: metric.name)
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())
