"""Any number of items → requests of limited size, and back to one answer for each item."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfserving_client.errors import CallError, InvalidInput, Rejected, ServingError, shortened
from tfserving_client.serving.rows import Answers, Rows


@dataclass(slots=True)
class Part:
    """One request's worth of pieces, all of one kind.

    Attributes:
        pieces: an item each, or some rows of one; a refused item is its error.
        ends: whether the piece is its item's last.
        rows: how many they are.
        kind: theirs; None if there are none.
    """

    pieces: list[Rows | ServingError] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    rows: int = 0
    kind: Hashable = None

    def add(self, piece: Rows | ServingError, *, ends: bool) -> None:
        """Take one more piece."""
        self.pieces.append(piece)
        self.ends.append(ends)
        if isinstance(piece, Rows):
            self.rows += len(piece)
            self.kind = piece.kind


class Splitter:
    """Cuts items, as `prepare` reads them, into parts of at most `size` rows."""

    def __init__(self, size: int, prepare: Callable[[Any], Rows]) -> None:
        self._size, self._prepare = size, prepare
        self._items = 0
        self._part = Part()

    def add(self, item: Any) -> Iterator[Part]:
        """The parts that this item completes."""
        try:
            batch = self._prepare(item)
        except InvalidInput as error:
            self._part.add(InvalidInput(f"item {self._items}: {error}"), ends=True)
        except CallError as error:
            self._part.add(error, ends=True)
        else:
            for start in range(0, len(batch), self._size):
                piece = batch[start : start + self._size]
                if self._part.kind not in (None, piece.kind) or (
                    self._part.rows + len(piece) > self._size
                ):
                    yield from self.rest()
                self._part.add(piece, ends=start + self._size >= len(batch))
        self._items += 1
        if self._part.rows >= self._size or len(self._part.pieces) >= self._size:
            yield from self.rest()

    def rest(self) -> Iterator[Part]:
        """What is left, if anything."""
        if self._part.pieces:
            yield self._part
            self._part = Part()


class Joiner:
    """Puts the pieces' answers together, in order."""

    def __init__(
        self,
        answers: Answers,
        progress: Callable[[int], None] | None,
        *,
        return_exceptions: bool,
    ) -> None:
        self._answers = answers
        self._progress = progress
        self._return_exceptions = return_exceptions
        self._pieces: list[Any] = []
        self._error: ServingError | None = None
        self._items = self._place = 0

    def add(self, part: Part, answers: Sequence[Any]) -> Iterator[Any]:
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

    def _whole(self) -> Any:
        pieces, error = self._pieces, self._error
        self._pieces, self._error = [], None
        place, self._place = self._place, self._place + 1
        if error is None:
            return self._answers.join(pieces)
        if isinstance(error, Rejected):  # each has its own
            error.cause = f"item {place}: {error.cause}"
        if not self._return_exceptions:
            raise shortened(error) from None
        return error
