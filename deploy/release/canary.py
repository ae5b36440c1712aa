"""A canary: a version that answers a share of the callers, on a separate server.

Over gRPC the gateway can neither read nor change the requested version. So the candidate has a
server of its own, and the gateway sends a share of the callers there: by key, so that each caller
always gets the same version. Its state is two files of the configuration: what that server serves,
and which callers are sent to it.
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
_LOOKS = 6  # times the length of a step without a verdict, after which the canary is withdrawn


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
        Refused: it does not load or does not give its golden answers; then no caller is sent to it.
    """
    with alone(place):
        folder = place.folder(number)
        refuse_beside(place, number)
        live = live_version(place)
        if live is None or live == number:
            raise Refused(
                f"{place.name}: {live or 'nothing'} is live; a canary needs another version"
            )
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


def verify(place: Place, live: int | None, number: int, answers: Mapping[str, Answers]) -> None:
    """Check a version against its golden answers on a separate server, without callers.

    Raises:
        Refused: it does not load, or does not give its golden answers.
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
    """Send more and more callers to a version as long as its figures are good, then make it live.

    Args:
        place: the model and its servers.
        number: the version.
        steps: the shares in percent, one after the other.
        every: length of each step in seconds.
        why: for the history.
        without_golden: also where nothing says what the version must answer.

    Raises:
        Refused: it is worse than the stable version, or there was no verdict for too long; then no
            caller is sent to it.
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
            raise Refused(f"version {number} of {place.name} was withdrawn: {sentence}")


def end(place: Place) -> None:
    """Send no more callers to the candidate, and remove its server; nothing without a canary."""
    some = under_way(place)
    place.write({CANARY: None, CANDIDATE: None})
    if place.running(SERVICE):
        if some:
            place.say("end     callers are no longer sent to the candidate")
            time.sleep(place.drain)
        place.stop(SERVICE)


def under_way(place: Place) -> tuple[str, int] | None:
    """The model, and the version of it that some callers are sent to; None without a canary."""
    text = place.read(CANARY)
    return sharing.tried(text) if text else None


def refuse_beside(place: Place, number: int | None) -> None:
    """Refuse while the canary of another version, or of another model, is in progress.

    Raises:
        Refused: there is one.
    """
    if (tried := under_way(place)) not in (None, (place.name, number)):
        model, version = tried
        raise Refused(
            f"a canary sends some callers to version {version} of {model}; run `promote {version} "
            f"--name {model}` or `rollback --name {model}` first"
        )


def _serve(place: Place, live: int | None, number: int) -> None:
    """Start a server that answers with that version if a request names it, or names none."""
    # Without a named version the newest loaded one answers; so an older one has to be there alone.
    versions = {number if live is None else min(live, number), number}
    place.write({CANDIDATE: place.serving(versions, {"stable": number})})
    place.start(SERVICE)
    place.wait(SERVICE, CANDIDATE)
    place.say(f"step    {number} is loaded on a separate server")


def _share(place: Place, number: int, percent: float) -> None:
    names = place.callers()
    text = sharing.text(place.name, number, percent, names)
    place.write({CANARY: text})
    count = text.count(" candidate\n")
    place.say(
        f"step    {percent:g} %: {count} of {len(names)} keys, and this share of the other callers"
    )


def _judged(place: Place, percent: float, every: float) -> verdict.Verdict:
    """Measure both sides until there is enough for a verdict."""
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
