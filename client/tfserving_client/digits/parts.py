"""Any number of items → requests of a bearable size, and back to one answer for each item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfserving_client.digits.classification import Classification, join
from tfserving_client.digits.images import Batch, prepare
from tfserving_client.errors import InvalidInput, ServingError


@dataclass(slots=True)
class Part:
    """One request's worth of pieces, all for the same signature.

    Attributes:
        pieces: an item each, or some images of one; a refused item is its error.
        ends: whether the piece is its item's last.
        images: how many they are.
    """

    pieces: list[Batch | InvalidInput] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    images: int = 0
    signature: str | None = None

    def add(self, piece: Batch | InvalidInput, *, ends: bool) -> None:
        """Take one more piece."""
        self.pieces.append(piece)
        self.ends.append(ends)
        if isinstance(piece, Batch):
            self.images += len(piece)
            self.signature = piece.signature


class Splitter:
    """Cuts items into parts of at most `size` images."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items = 0
        self._part = Part()

    def add(self, item: Any) -> Iterator[Part]:
        """The parts that this item completes."""
        try:
            batch = prepare(item)
        except InvalidInput as error:
            refused = InvalidInput(f"item {self._items}: {error}")
            refused.__cause__ = error
            self._part.add(refused, ends=True)
        else:
            for start in range(0, len(batch), self._size):
                piece = batch[start : start + self._size]
                if self._part.signature not in {None, piece.signature} or (
                    self._part.images + len(piece) > self._size
                ):
                    yield from self.rest()
                self._part.add(piece, ends=start + self._size >= len(batch))
        self._items += 1
        if self._part.images >= self._size or len(self._part.pieces) >= self._size:
            yield from self.rest()

    def rest(self) -> Iterator[Part]:
        """What is left, if anything."""
        if self._part.pieces:
            yield self._part
            self._part = Part()


class Joiner:
    """Puts the pieces' answers together, in order."""

    def __init__(self, progress: Callable[[int], None] | None, *, return_exceptions: bool) -> None:
        self._progress = progress
        self._return_exceptions = return_exceptions
        self._pieces: list[Classification] = []
        self._error: ServingError | None = None
        self._items = 0

    def add(
        self, part: Part, answers: Sequence[Classification | ServingError]
    ) -> Iterator[Classification | ServingError]:
        """The answers of the items that this part completes.

        Raises:
            ServingError: an item's, unless exceptions are to be returned.
        """
        self._items += sum(part.ends)
        if self._progress:
            self._progress(self._items)
        for answer, ends in zip(answers, part.ends, strict=True):
            if isinstance(answer, ServingError):
                self._error = self._error or answer
            else:
                self._pieces.append(answer)
            if ends:
                yield self._whole()

    def _whole(self) -> Classification | ServingError:
        pieces, error = self._pieces, self._error
        self._pieces, self._error = [], None
        if error is None:
            return join(pieces)
        if not self._return_exceptions:
            raise error
        return error
