"""What a candidate must pass before anyone can see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from export.digits.checks.evaluation import Evaluation
from export.digits.checks.pictures import PictureFigures
from export.digits.subject import CLASSES
from export.errors import Refused

MAX_PICTURE_LOSS = 0.01  # of test digits: right as arrays, and not as pictures of dark ink on paper
MIN_ACCURACY = 0.95
MIN_ACCURACY_OF_FEW = 0.9  # the reference recipe gets to 0.946 with the 12,000 of the sample
FEW = 20_000  # training images
CLASS_MARGIN = 0.05  # how far below --min-accuracy a single digit's share of right answers may lie


@dataclass(frozen=True, slots=True)
class Findings:
    """What the candidate showed on the server's own loading path.

    Attributes:
        evaluation: figures over the test images.
        newest: the version that it would replace, and its accuracy on the same images; None where
            there is nothing to compare with.
        pictures: signature → figures over test digits drawn as dark ink on white paper.
    """

    evaluation: Evaluation
    newest: tuple[int, float] | None
    pictures: Mapping[str, PictureFigures] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line of progress."""
        worst = min(self.evaluation.classes, key=lambda figures: figures.recall)
        newest = self.newest
        pictures = "".join(
            f", {name} {figures.accuracy:.4f} of pictures"
            for name, figures in self.pictures.items()
        )
        before = f" (version {newest[0]}: {newest[1]:.4f})" if newest else ""
        return (
            f"test accuracy {self.evaluation.accuracy:.4f}{before}, "
            f"worst digit {CLASSES[worst.digit]} at {worst.recall:.4f}, "
            f"calibration error {self.evaluation.calibration_error:.4f}{pictures}"
        )


def floor(images: int) -> float:
    """The least test accuracy, in 0..1, that is asked of so many training images by default."""
    return MIN_ACCURACY if images >= FEW else MIN_ACCURACY_OF_FEW


def check(findings: Findings, min_accuracy: float, max_regression: float) -> None:
    """Let a candidate pass or not; accuracies are shares in 0..1.

    Raises:
        Refused: the accuracy is below `min_accuracy`, that of one digit more than `CLASS_MARGIN`
            below it, or the accuracy more than `max_regression` below the newest version's; or a
            signature reads more than `MAX_PICTURE_LOSS` fewer digits drawn as pictures than as
            arrays, and more than chance has it: of those that changed sides, their square root.
    """
    accuracy, newest = findings.evaluation.accuracy, findings.newest
    if not accuracy >= min_accuracy:
        raise Refused(f"test accuracy is {accuracy:.4f}; --min-accuracy asks for {min_accuracy:g}")
    for figures in findings.evaluation.classes:
        if not figures.recall >= min_accuracy - CLASS_MARGIN:
            raise Refused(
                f"of the {figures.images} test images of a {CLASSES[figures.digit]}, "
                f"{figures.recall:.4f} are recognised; --min-accuracy {min_accuracy:g} asks for "
                f"{min_accuracy - CLASS_MARGIN:g} of each digit"
            )
    if newest and not accuracy >= newest[1] - max_regression:
        raise Refused(
            f"test accuracy is {accuracy:.4f}, and version {newest[0]} reaches "
            f"{newest[1]:.4f} on the same images; "
            f"--max-regression allows {max_regression:g} less"
        )
    for signature, pictures in findings.pictures.items():
        lost = pictures.lost - pictures.won
        if lost > MAX_PICTURE_LOSS * pictures.images + (pictures.lost + pictures.won) ** 0.5:
            raise Refused(
                f"signature {signature} reads {pictures.accuracy:.4f} of {pictures.images} test "
                f"digits drawn as dark ink on white paper, {lost / pictures.images:.4f} less than "
                f"of the same as arrays; at most {MAX_PICTURE_LOSS:g} is allowed: are the images "
                "white ink on black, upright, each digit centred and 20 pixels large, as in MNIST?"
            )
