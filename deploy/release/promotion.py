"""Make a version live in steps that can be undone, and roll back.

Each step is a state of `models.config`, which the servers read. That file is the only state: a
command that is killed leaves one of these states, and the next command continues from it.
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
    """Make a version live, in steps; it ends up live on all servers or on none.

    Args:
        place: the model and its servers.
        number: the version.
        why: for the history.
        grace: seconds for which the old version stays loaded.
        without_golden: also accept a version without golden answers.

    Raises:
        InputError: there is no such version.
        Refused: no server runs, the version does not load, or it does not give its golden answers;
            the version that was live before is live again.
    """
    with alone(place):
        folder = place.folder(number)
        canary.refuse_beside(place, number)
        live = live_version(place)
        answers = golden_answers(place, folder, without_golden=without_golden)
        place.say(
            f"plan    {place.name}: {live or 'nothing'} is live; verify {number} on a separate "
            "server, load it, check it, make it live, check it again"
        )
        with _recorded(place, "promote", live, number, why):
            if number != live and canary.under_way(place) is None:
                canary.verify(place, live, number, answers)
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
    """End release control: from now on the newest version is live."""
    with alone(place):
        canary.refuse_beside(place, None)
        with _recorded(place, "promote", place.release().stable, None, why):
            place.step("the newest version is always live", Release())


def rollback(place: Place, *, why: str) -> int:
    """Make the version live that was live before; if a release is in progress, only end that.

    Works without running servers, too: they read it when they start.

    Returns:
        The version that is live now.

    Raises:
        Refused: there is no version to go back to, or it does not load.
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
            except Refused as error:  # a server that hangs does not stop the others
                place.say(f"  !!    {error}")
        return target


@contextlib.contextmanager
def _recorded(
    place: Place, action: str, before: int | None, to: int | None, why: str
) -> Iterator[Entry]:
    """Record start and end; if it fails, make the version live that was live before."""
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
    """Unload the old version, unless the state has changed meanwhile."""
    place.rest(f"grace   {previous} stays loaded, so that `rollback` takes effect at once", grace)
    with alone(place):
        if place.release() == Release(number, previous=previous):
            place.step(f"{previous} is unloaded", Release(number))


def _earlier(place: Place, release: Release) -> int:
    """The version to go back to: the first choice that exists."""
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
