"""Make a version live in steps that leave a way back, and go back.

Each step is a state of `models.config` that the servers take up, and what is written there is the
truth. A command that is killed leaves one of these states, and the next one goes on from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from deploy.operate import interrupts
from deploy.operate.errors import Refused
from deploy.release import canary, history, replicas
from deploy.release.checks import check, golden_answers
from deploy.release.history import DONE, Entry
from deploy.release.place import Place, alone, live_version
from deploy.release.state import Release


def promote(
    place: Place, number: int, *, why: str, grace: float, without_golden: bool = False
) -> None:
    """Make a version live, in steps; it is live everywhere or nowhere.

    Args:
        place: the model and its servers.
        number: the version.
        why: for the history.
        grace: seconds during which the version of before stays loaded.
        without_golden: also where nothing says what the version must answer.

    Raises:
        InputError: there is no such version.
        Refused: no server runs, the version does not load, or it answers otherwise than it must;
            what was live before is live again.
    """
    with alone(place):
        folder = place.folder(number)
        canary.refuse_beside(place, number)
        live = live_version(place)
        answers = golden_answers(place, folder, without_golden=without_golden)
        place.say(
            f"plan    {place.name}: {live or 'nothing'} is live; prove {number} on a server of its "
            "own, load it, check it, make it live, check it again"
        )
        with _recorded(place, "promote", live, number, why):
            if number != live and canary.under_way(place) is None:
                canary.prove(place, live, number, answers)
            place.step(f"{number} is loaded", Release(live, loading=number))
            check(place, answers, version=number)
            place.step(f"{number} is the candidate", Release(live, candidate=number))
            check(place, answers, label="candidate")
            previous = None if live == number else live
            place.step(f"{number} is live", Release(number, previous=previous))
            check(place, answers, label="stable")
            canary.end(place)
    if previous is not None:
        _retire(place, number, previous, grace)


def follow_newest(place: Place, *, why: str) -> None:
    """End release control: from now on the newest version is live, whichever appears."""
    with alone(place):
        canary.refuse_beside(place, None)
        with _recorded(place, "promote", place.release().stable, None, why):
            place.step("the newest version is live, whichever it is", Release())


def rollback(place: Place, *, why: str) -> int:
    """Make the version live that was before; if another is on the way, end that and no more.

    Works without servers, too: they read it when they start.

    Returns:
        The version that is live now.

    Raises:
        Refused: there is none to go back to, or it does not load.
    """
    with alone(place) as interrupted:
        release = place.release()
        live = release.stable
        tried, _ = canary.under_way(place) or (None, None)
        on_the_way = interrupted or tried == place.name
        target = live if on_the_way and live is not None else _earlier(place, release)
        place.say(f"plan    {place.name}: {release}; go back to {target}")
        with _recorded(place, "rollback", live, target, why):
            canary.end(place)
            there = replicas.available(place.running(), place.model())
            if place.running() and target not in there:
                place.set(Release(live if live in there else None, loading=target))
                place.restart_starting()
                place.wait()
                place.say(f"step    {target} is loaded")
            place.set(Release(target))
            place.restart_starting()
            try:
                place.wait()
                place.say(f"step    {target} is live")
            except Refused as error:  # a server that hangs keeps the others from nothing
                place.say(f"  !!    {error}")
        return target


@contextlib.contextmanager
def _recorded(
    place: Place, action: str, before: int | None, to: int | None, why: str
) -> Iterator[Entry]:
    """Write down how it begins and ends; if it fails, what was live before is live again."""
    entry = history.begin(place.log, place.name, action, before, to, why)
    earlier = place.release()
    try:
        yield entry
    except BaseException as error:
        sentence = " ".join(str(error).split())
        with interrupts.ignored():
            try:
                undone = Release(before if action == "promote" else earlier.stable)
                place.say(f"undo    {place.name}: {undone}")
                place.set(undone)
            finally:
                history.end(place.log, entry, f"refused: {sentence}" if sentence else "interrupted")
        raise
    history.end(place.log, entry, DONE)


def _retire(place: Place, number: int, previous: int, grace: float) -> None:
    """Drop the version of before, unless somebody has changed anything meanwhile."""
    place.rest(f"grace   {previous} stays loaded, `rollback` goes back to it at once", grace)
    with alone(place):
        if place.release() == Release(number, previous=previous):
            place.step(f"{previous} is retired", Release(number))


def _earlier(place: Place, release: Release) -> int:
    """The version to go back to: the first of these that is there."""
    if release.stable is not None and (release.candidate or release.loading):
        return release.stable
    versions = place.versions()
    newest = max(versions, default=None)
    live = release.stable if release.stable is not None else newest
    recorded = history.live_before(place.log, place.name, live) if live is not None else None
    below = max((number for number in versions if live is not None and number < live), default=None)
    choices = [one for one in (release.loading, release.previous, recorded, below) if one]
    for number in choices:
        if not versions or number in versions:
            return number
    there = ", ".join(map(str, versions)) or "none"
    raise Refused(
        f"{place.name} has no version to go back to from {live or 'nothing'}; on disk: {there}"
    )
