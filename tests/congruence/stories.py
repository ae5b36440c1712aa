"""Plays a story: steps that publish versions, start the server, wait for states, ask.

Each step is a function of the server and the step's data; its name is the step's `do`. Nothing
depends on how long a step took.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

from tests.congruence.comparing import difference
from tests.congruence.reporting import told
from tests.congruence.servers import Failed, Server

Step = dict[str, Any]


def play(server: Server, story: dict[str, Any]) -> str | None:
    """What went wrong first, or None."""
    try:
        for number, step in enumerate(story["steps"], 1):
            try:
                _STEPS[step["do"]](server, step)
            except Failed as error:
                return f"{story['id']}, step {number} ({step['do']}): {error}"
    finally:
        server.stop()
    return None


def _write(server: Server, step: Step) -> None:
    server.write(step["file"], step["text"])


def _publish(server: Server, step: Step) -> None:
    """Copy a version beside its place, then rename it there."""
    place = server.work / step["to"]
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = shutil.copytree(server.models / step["from"], place.with_name(f".new-{place.name}"))
    hidden.rename(place)


def _rename(server: Server, step: Step) -> None:
    (server.work / step["from"]).rename(server.work / step["to"])


def _folder(server: Server, step: Step) -> None:
    (server.work / step["path"]).mkdir(parents=True)


def _remove(server: Server, step: Step) -> None:
    """Out of sight in one step; who is just looking into it does not see it emptied."""
    (server.work / step["path"]).rename(server.work / f"removed-{time.time_ns()}")


def _start(server: Server, step: Step) -> None:
    rest, wait = step.get("rest", True), step.get("wait", True)
    server.start(step["flags"], rest=rest, wait=wait)


def _kill(server: Server, _step: Step) -> None:
    server.kill()


def _opens(server: Server, _step: Step) -> None:
    server.wait_open()


def _closed(server: Server, step: Step) -> None:
    """The process runs, and its ports stay closed for so long."""
    end = time.monotonic() + step["seconds"]
    while time.monotonic() < end:
        if server.ended() or server.any_open():
            raise Failed(f"{'it ended' if server.ended() else 'a port is open'}; {server.said()}")
        time.sleep(0.1)


def _exit(server: Server, step: Step) -> None:
    status = server.wait_end()
    if status != step["status"]:
        raise Failed(f"exit status {status} instead of {step['status']}; {server.said()}")
    output = server.output()
    if missing := [text for text in step["says"] if text not in output]:
        raise Failed(f"its output lacks {missing}; {server.said()}")


def _states(server: Server, step: Step) -> None:
    server.until(
        lambda: server.states(step["model"]) == step["states"],
        f"{step['model']} to be {step['states']} (at first {server.states(step['model'])})",
    )


def _keeps(server: Server, step: Step) -> None:
    """The states are so, and stay so for so long."""
    end = time.monotonic() + step["seconds"]
    while time.monotonic() < end:
        if (states := server.states(step["model"])) != step["states"]:
            raise Failed(f"{step['model']} is {states} instead of {step['states']}")
        time.sleep(0.2)


def _probe(server: Server, step: Step) -> None:
    """One request; with `until`, again and again until its answer is the expected one."""
    end = time.monotonic() + (60 if "until" in step else 0)
    while True:
        answer = server.ask(step["request"])
        what = difference(step["response"], answer, step.get("compare"))
        if what is None:
            return
        if time.monotonic() >= end:
            raise Failed(told(what, step["request"], step["response"], answer))
        time.sleep(0.1)


_STEPS: dict[str, Callable[[Server, Step], None]] = {
    "write": _write,
    "publish": _publish,
    "rename": _rename,
    "folder": _folder,
    "remove": _remove,
    "start": _start,
    "kill": _kill,
    "opens": _opens,
    "closed": _closed,
    "exit": _exit,
    "states": _states,
    "keeps": _keeps,
    "probe": _probe,
}
