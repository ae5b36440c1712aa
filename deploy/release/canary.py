"""A version that some of the callers are answered by, on a server of its own.

Over gRPC a caller names no version that the gateway could read or change, so the candidate runs
apart, and the gateway sends a share of the callers there: by key, so that each of them is answered
by the same version every time. Two files of the configuration are its state: what that server
serves, and who is sent to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from deploy import model_config
from deploy.model_config import Model
from deploy.operate.access import keys, secret_files
from deploy.operate.errors import Refused
from deploy.operate.models import editing
from deploy.operate.stack import lifecycle, served, settings
from deploy.operate.stack.engine import Compose
from deploy.operate.stack.lifecycle import CANARY_PROFILE
from deploy.release import history, replicas, sharing, sides, verdict
from deploy.release.checks import check, golden_answers
from deploy.release.golden import Answers
from deploy.release.place import Place, alone, live_version
from deploy.release.state import Release

SERVICE = "candidate"
_DRAIN = 5  # seconds until the gateway has read that the canary has ended, and calls are answered
_LOOKS = 6  # at a step, without a verdict, until it is given up


def begin(place: Place, number: int, percent: float, *, why: str) -> None:
    """Send a share of the callers to a version, or change the share.

    Args:
        place: the model and its servers.
        number: the version.
        percent: of the keys, more than 0 and less than 100.
        why: for the history.

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
        answers = golden_answers(place, folder)
        entry = history.begin(place.name, "canary", live, number, why)
        place.say(f"plan    {place.name}: {live} is live; {percent:g} % of the callers to {number}")
        try:
            place.set(Release(live))
            _serve(place, live, number)
            check(place, answers, SERVICE, version=number)
            check(place, answers, SERVICE, label="stable")
            _share(place, number, percent)
        except BaseException as error:
            history.end(entry, f"refused: {error}" if str(error) else "interrupted")
            if not (served.OWN / served.CANARY).exists():
                end(place)
            raise
        history.end(entry, f"{percent:g} % of the callers")


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


def climb(place: Place, number: int, steps: Sequence[float], every: float, *, why: str) -> None:
    """Send more and more callers to a version as long as it does well, and then make it live.

    Args:
        place: the model and its servers.
        number: the version.
        steps: the shares in percent, one after the other.
        every: seconds that each of them is looked at.
        why: for the history.

    Raises:
        Refused: it does worse than the stable version, or nothing could be said for long; nobody is
            sent to it then.
    """
    for percent in steps:
        begin(place, number, percent, why=why)
        found = _judged(place, percent, every)
        if not found.good:
            with alone(place):
                entry = history.begin(place.name, "canary", place.release().stable, number, why)
                end(place)
                sentence = f"at {percent:g} % of the callers {'; '.join(found.reasons)}"
                history.end(entry, f"refused: {sentence}")
            raise Refused(f"version {number} of {place.name} is taken back: {sentence}")


def end(place: Place) -> None:
    """Send nobody to the candidate any more, and remove its server; nothing without a canary."""
    some = (served.OWN / served.CANARY).exists()
    for name in (served.CANARY, served.CANDIDATE):
        (served.OWN / name).unlink(missing_ok=True)
    served.hand_over(served.source())
    if place.engine and place.running(SERVICE):
        if some:
            place.say("end     nobody is sent to the candidate any more")
            time.sleep(_DRAIN)
        _compose().run("rm", "--stop", "--force", "--volumes", SERVICE)
    _let_it_run(False)


def under_way() -> tuple[str, int] | None:
    """The model, and the version of it that some callers are sent to; None without a canary."""
    file = served.OWN / served.CANARY
    return sharing.tried(file.read_text()) if file.exists() else None


def refuse_beside(place: Place, number: int | None) -> None:
    """Go no further where the canary of another version, or of another model, is under way.

    Raises:
        Refused: one is.
    """
    if (tried := under_way()) not in (None, (place.name, number)):
        model, version = tried
        raise Refused(
            f"some callers are sent to version {version} of {model}, a canary: `promote {version} "
            f"--name {model}` or `rollback --name {model}` first"
        )


def _served(place: Place) -> Model:
    """What the candidate's server serves of the model."""
    models = model_config.read(served.OWN / served.CANDIDATE)
    return next(one for one in models if one.name == place.name)


def _serve(place: Place, live: int | None, number: int) -> None:
    """Have a server that answers with that version, whoever names none, and whoever names it."""
    # The newest that is loaded answers who names none; so an older one has to be there alone.
    versions = {number if live is None else min(live, number), number}
    text = editing.serving(
        served.place(served.MODELS).read_text(), place.name, versions, {"stable": number}
    )
    secret_files.replace(served.OWN / served.CANDIDATE, text.encode())
    served.hand_over(served.source())
    assert place.engine  # where none answers, no version is live
    lifecycle.start(place.engine, _compose(), SERVICE, timeout=place.timeout)
    replicas.wait(
        place.engine, place.project, _served(place), timeout=place.timeout, service=SERVICE
    )
    place.say(f"step    {number} is loaded on a server of its own")


def _share(place: Place, number: int, percent: float) -> None:
    names = [key.name for key in keys.read() if not key.ended]
    text = sharing.text(place.name, number, percent, names)
    secret_files.replace(served.OWN / served.CANARY, text.encode())
    served.hand_over(served.source())
    _let_it_run(True)
    count = text.count(" candidate\n")
    place.say(f"step    {percent:g} %: {count} of {len(names)} keys, and as many of the others")


def _let_it_run(whether: bool) -> None:
    """Make every later command on this machine keep the candidate's server, or not."""
    known = settings.read()
    profiles = {*filter(None, known.get("COMPOSE_PROFILES", "").split(","))}
    wanted = profiles | {CANARY_PROFILE} if whether else profiles - {CANARY_PROFILE}
    if wanted != profiles:
        settings.write({**known, "COMPOSE_PROFILES": ",".join(sorted(wanted))})


def _judged(place: Place, percent: float, every: float) -> verdict.Verdict:
    """What was measured of both sides, as soon as there is enough of it."""
    begun = time.monotonic()
    found = verdict.Verdict(None, [], ["nothing was measured"])
    for _ in range(_LOOKS):
        place.rest(f"step    {percent:g} % of the callers", every)
        try:
            seconds = time.monotonic() - begun
            found = verdict.judge(*sides.measured(place.prometheus, place.name, seconds))
        except sides.Unmeasured as error:
            found = verdict.Verdict(None, [str(error)], [str(error)])
        for sentence in found.figures:
            place.say(f"        {sentence}")
        if found.good is not None:
            break
        place.say("        no verdict yet")
    return found


def _compose() -> Compose:
    return Compose(profiles=[CANARY_PROFILE])
