"""What a candidate must pass before anyone can see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from export.digits.checks.evaluation import Evaluation
from export.errors import Refused

MAX_PARITY_DIFFERENCE = 1e-5  # in probability; a few units in the last place of float32 sums
CLASS_MARGIN = 0.05  # how far below --min-accuracy a single digit's share of right answers may lie


@dataclass(frozen=True, slots=True)
class Comparison:
    """The version that was newest, on the same test images."""

    version: int
    test_accuracy: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What the candidate showed on the server's own loading path.

    Attributes:
        signatures: name → SignatureDef.
        parity: signature → largest difference to the network in memory, in probability.
        evaluation: figures over the test images.
        newest: what it would replace; None where there is nothing to compare with.
    """

    signatures: Mapping[str, Any]
    parity: Mapping[str, float]
    evaluation: Evaluation
    newest: Comparison | None

    def __str__(self) -> str:
        """One line of progress."""
        worst = min(self.evaluation.classes, key=lambda figures: figures.recall)
        newest = self.newest
        before = f" (version {newest.version}: {newest.test_accuracy:.4f})" if newest else ""
        return (
            f"test accuracy {self.evaluation.accuracy:.4f}{before}, "
            f"worst digit {worst.digit} at {worst.recall:.4f}, "
            f"calibration error {self.evaluation.calibration_error:.4f}, "
            f"served answers within {max(self.parity.values()):.1g} of the network's"
        )


def check(findings: Findings, min_accuracy: float, max_regression: float) -> None:
    """Let a candidate pass or not; accuracies are shares in 0..1.

    Raises:
        Refused: a signature differs by more than `MAX_PARITY_DIFFERENCE`, the accuracy is below
            `min_accuracy`, that of one digit more than `CLASS_MARGIN` below it, or the accuracy
            more than `max_regression` below the newest version's.
    """
    for signature, difference in findings.parity.items():
        if not difference <= MAX_PARITY_DIFFERENCE:
            raise Refused(
                f"signature {signature} differs by {difference:.2g} from the trained network; "
                f"at most {MAX_PARITY_DIFFERENCE:g} is allowed"
            )
    accuracy, newest = findings.evaluation.accuracy, findings.newest
    if not accuracy >= min_accuracy:
        raise Refused(f"test accuracy is {accuracy:.4f}; --min-accuracy asks for {min_accuracy:g}")
    for figures in findings.evaluation.classes:
        if not figures.recall >= min_accuracy - CLASS_MARGIN:
            raise Refused(
                f"of the {figures.images} test images of a {figures.digit}, {figures.recall:.4f} "
                f"are recognised; --min-accuracy {min_accuracy:g} asks for "
                f"{min_accuracy - CLASS_MARGIN:g} of each digit"
            )
    if newest and not accuracy >= newest.test_accuracy - max_regression:
        raise Refused(
            f"test accuracy is {accuracy:.4f}, and version {newest.version} reaches "
            f"{newest.test_accuracy:.4f} on the same images; "
            f"--max-regression allows {max_regression:g} less"
        )
