"""`classify`: which digit is on each picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from tfserving_client.command.connection import settings
from tfserving_client.command.failures import fail, line
from tfserving_client.command.pictures import pictures
from tfserving_client.command.progress import Progress

_FEW = 4  # pictures that are drawn without --draw
_MANY = 100  # pictures; with more the progress is shown at once


def classify(options: argparse.Namespace) -> int:
    """Answer for each picture, whatever becomes of the others; the exit status."""
    from tfserving_client import DigitClient, InvalidInput, Rejected, ServingError
    from tfserving_client.command.drawing import bar, picture

    named, total = pictures(options.files)
    first = list(islice(named, _FEW + 1))
    drawn = options.draw or (len(first) <= _FEW and sys.stdout.isatty())
    asked: deque[tuple[str, str | bytes]] = deque()
    failures: Counter[str] = Counter()
    done = refused = 0

    def items() -> Iterator[str | bytes]:
        for picture_asked in chain(first, named):
            asked.append(picture_asked)
            yield picture_asked[1]

    def pace(seconds: float) -> str:
        of = f" of {total:,}" if total else ""
        share = f"{bar(done / total, 20)} " if total else ""
        return f"{share}{done:,}{of} pictures, {done / seconds:,.0f}/s"

    which = {"version": options.version, "label": options.label}
    digits = DigitClient(**settings(options), timeout=options.timeout)
    with digits, Progress(pace, at_once=(total or 0) > _MANY) as progress:
        for answer in digits.classify_many(items(), **which, return_exceptions=True):
            (name, item), done = asked.popleft(), done + 1
            if isinstance(answer, ServingError):
                answered: dict[str, Any] = {"file": name, "error": str(answer)}
                refused += isinstance(answer, InvalidInput)
                text = str(answer)
                if isinstance(answer, InvalidInput | Rejected) and repr(name) not in text:
                    text = f"{name}: {text}"
                failures[text] += 1
                if failures[text] == 1:  # a server that is gone says the same of every picture
                    progress.print(line(text), sys.stderr)
            else:
                row = answer.probabilities[0]
                answered = {"file": name, "digit": int(answer.digits[0])}
                answered["probabilities"] = [round(float(p), 6) for p in row]
                answered["blank"] = bool(answer.blank[0])
                answered["version"] = answer.version
                if not options.json:
                    share = row[answered["digit"]]
                    said = f"{answered['digit']}  {share:6.1%} {bar(share, 20)}"
                    said = f"{'blank':30}" if answered["blank"] else said
                    progress.print(f"{said} {name}")
                    for drawn_line in picture(item, row) if drawn else ():
                        progress.print(drawn_line)
            if options.json:
                progress.print(json.dumps(answered))
    if not done:
        raise InvalidInput("no picture was given")
    for text, count in failures.items():
        if count > 1:
            fail(f"{count - 1:,} more failed like {text[:60]!r}…", 1)
    return 0 if not failures else 2 if refused == done else 1
