"""A version that some of the callers are answered by, on a server of its own.

Over gRPC a caller names no version that the gateway could read or change, so the candidate runs
apart, and the gateway sends a share of the callers there: by key, so that each of them is answered
by the same version every time. Two files of the configuration are its state: what that server
serves, and who is sent to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from deploy.operate.errors import Refused
from deploy.operate.stack.served import CANARY, CANDIDATE
from deploy.release import history, sharing, sides, verdict
from deploy.release.checks import check, golden_answers
from deploy.release.golden import Answers
from deploy.release.place import Place, alone, live_version
from deploy.release.state import Release

SERVICE = "candidate"
_LOOKS = 6  # at a step, without a verdict, until it is given up


def begin(
    place: Place, number: int, percent: float, *, why: str, without_golden: bool = False
) -> None:
    """Send a share of the callers to a version, or change the share.

    Args:
        place: the model and its servers.
        number: the version.
        percent: of the keys, more than 0 and less than 100.
        why: for the history.
        without_golden: also where nothing says what the version must answer.

    Raises:
        InputError: there is no such version.
        Refused: it does not load or answers otherwise than it must; nobody is sent to it then.
    """
    with alone(place):
        folder = place.folder(number)
        refuse_beside(place, number)
        live = live_version(place)
        if live is None or live == number:
            raise Refused(f"{place.name}: {live or 'nothing'} is live; a canary needs another one")
        answers = golden_answers(place, folder, without_golden=without_golden)
        entry = history.begin(place.log, place.name, "canary", live, number, why)
        place.say(f"plan    {place.name}: {live} is live; {percent:g} % of the callers to {number}")
        try:
            place.set(Release(live))
            _serve(place, live, number)
            check(place, answers, SERVICE, version=number)
            check(place, answers, SERVICE, label="stable")
            _share(place, number, percent)
        except BaseException as error:
            history.end(place.log, entry, f"refused: {error}" if str(error) else "interrupted")
            if under_way(place) is None:
                end(place)
            raise
        history.end(place.log, entry, f"{percent:g} % of the callers")


def prove(place: Place, live: int | None, number: int, answers: Mapping[str, Answers]) -> None:
    """Hold a version to its golden answers where no caller is answered by it.

    Raises:
        Refused: it does not load, or it answers otherwise than it must.
    """
    try:
        _serve(place, live, number)
        check(place, answers, SERVICE, version=number)
    finally:
        end(place)


def climb(
    place: Place,
    number: int,
    steps: Sequence[float],
    every: float,
    *,
    why: str,
    without_golden: bool = False,
) -> None:
    """Send more and more callers to a version as long as it does well, and then make it live.

    Args:
        place: the model and its servers.
        number: the version.
        steps: the shares in percent, one after the other.
        every: seconds that each of them is looked at.
        why: for the history.
        without_golden: also where nothing says what the version must answer.

    Raises:
        Refused: it does worse than the stable version, or nothing could be said for long; nobody is
            sent to it then.
    """
    for percent in steps:
        begin(place, number, percent, why=why, without_golden=without_golden)
        found = _judged(place, percent, every)
        if not found.good:
            with alone(place):
                stable = place.release().stable
                entry = history.begin(place.log, place.name, "canary", stable, number, why)
                end(place)
                sentence = f"at {percent:g} % of the callers {'; '.join(found.reasons)}"
                history.end(place.log, entry, f"refused: {sentence}")
            raise Refused(f"version {number} of {place.name} is taken back: {sentence}")


def end(place: Place) -> None:
    """Send nobody to the candidate any more, and remove its server; nothing without a canary."""
    some = under_way(place)
    place.write({CANARY: None, CANDIDATE: None})
    if place.running(SERVICE):
        if some:
            place.say("end     nobody is sent to the candidate any more")
            time.sleep(place.drain)
        place.stop(SERVICE)


def under_way(place: Place) -> tuple[str, int] | None:
    """The model, and the version of it that some callers are sent to; None without a canary."""
    text = place.read(CANARY)
    return sharing.tried(text) if text else None


def refuse_beside(place: Place, number: int | None) -> None:
    """Go no further where the canary of another version, or of another model, is under way.

    Raises:
        Refused: one is.
    """
    if (tried := under_way(place)) not in (None, (place.name, number)):
        model, version = tried
        raise Refused(
            f"some callers are sent to version {version} of {model}, a canary: `promote {version} "
            f"--name {model}` or `rollback --name {model}` first"
        )


def _serve(place: Place, live: int | None, number: int) -> None:
    """Have a server that answers with that version, whoever names none, and whoever names it."""
    # The newest that is loaded answers who names none; so an older one has to be there alone.
    versions = {number if live is None else min(live, number), number}
    place.write({CANDIDATE: place.serving(versions, {"stable": number})})
    place.start(SERVICE)
    place.wait(SERVICE, CANDIDATE)
    place.say(f"step    {number} is loaded on a server of its own")


def _share(place: Place, number: int, percent: float) -> None:
    names = place.callers()
    text = sharing.text(place.name, number, percent, names)
    place.write({CANARY: text})
    count = text.count(" candidate\n")
    place.say(f"step    {percent:g} %: {count} of {len(names)} keys, and as many of the others")


def _judged(place: Place, percent: float, every: float) -> verdict.Verdict:
    """What was measured of both sides, as soon as there is enough of it."""
    begun = time.monotonic()
    found = verdict.Verdict(None, [], ["nothing was measured"])
    for _ in range(_LOOKS):
        place.rest(f"step    {percent:g} % of the callers", every)
        try:
            seconds = time.monotonic() - begun
            both = sides.measured(place.prometheus, place.name, seconds, place.within)
            found = verdict.judge(*both)
        except sides.Unmeasured as error:
            found = verdict.Verdict(None, [str(error)], [str(error)])
        for sentence in found.figures:
            place.say(f"        {sentence}")
        if found.good is not None:
            break
        place.say("        no verdict yet")
    return found
