"""What a candidate must pass before anyone can see it."""

from __future__ import annotations

from collections.abc import Mapping

from export.errors import Refused

MAX_PARITY_DIFFERENCE = 1e-5  # in probability; a few units in the last place of float32 sums


def check_parity(differences: Mapping[str, float]) -> None:
    """Every signature answers as the network in memory does.

    Raises:
        Refused: a signature differs by more than `MAX_PARITY_DIFFERENCE`.
    """
    for signature, difference in differences.items():
        if not difference <= MAX_PARITY_DIFFERENCE:
            raise Refused(
                f"signature {signature} differs by {difference:.2g} from the trained network; "
                f"at most {MAX_PARITY_DIFFERENCE:g} is allowed"
            )


def check_accuracy(accuracy: float, floor: float) -> None:
    """The accuracy reaches the floor, both 0..1.

    Raises:
        Refused: it does not.
    """
    if not accuracy >= floor:
        raise Refused(f"test accuracy is {accuracy:.4f}; --min-accuracy asks for {floor:g}")


def check_regression(accuracy: float, newest: int, newest_accuracy: float, limit: float) -> None:
    """The accuracy falls at most `limit` below the newest version's, on the same images.

    Raises:
        Refused: it falls more.
    """
    if not accuracy >= newest_accuracy - limit:
        raise Refused(
            f"test accuracy is {accuracy:.4f}, and version {newest} reaches {newest_accuracy:.4f} "
            f"on the same images; --max-regression allows {limit:g} less"
        )
