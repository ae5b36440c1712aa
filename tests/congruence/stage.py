"""Keeps servers running ahead of their tests, as a start takes its time."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tests.congruence.servers import Server
from tests.congruence.stories import play

Setup = Mapping[str, Any]


def _is_settled(server: Server, model: str) -> bool:
    states = server.states(model) or {}
    return bool(states) and {"START", "LOADING"}.isdisjoint(states.values())


class Stage:
    """Servers of setups, one in use and the next one starting; stories, several at a time.

    `setups` holds all that there are; `order` are the names of those that will be asked for.
    """

    def __init__(
        self, models: Path, folder: Path, setups: Mapping[str, Setup], order: Iterable[str]
    ) -> None:
        self._models, self._folder, self._setups = models, folder, setups
        self._order = list(order)
        self._servers: list[Server] = []
        self._numbers = itertools.count(1)
        self._running: dict[str, Future[Server]] = {}
        self._starter = ThreadPoolExecutor(2)
        self._player = ThreadPoolExecutor(6)
        self._stories: dict[str, Future[str | None]] = {}

    def server(self, name: str) -> Server:
        """The server of a setup; the one of the setup before it is stopped."""
        for other in [each for each in self._running if each not in self._wanted(name)]:
            started = self._running.pop(other)
            if started.exception() is None:
                started.result().stop()
        for each in self._wanted(name):
            if each not in self._running:
                self._running[each] = self._starter.submit(self._start, self._setups[each])
        if error := self._running[name].exception():
            raise error.with_traceback(None)
        server = self._running[name].result()
        if server.ended():  # a case brought it down; the others are not to blame
            del self._running[name]
            return self.server(name)
        return server

    def _wanted(self, name: str) -> list[str]:
        if name not in self._order:
            return [name]
        place = self._order.index(name)
        return self._order[place : place + 2]

    def _start(self, setup: Setup) -> Server:
        server = self._new_server()
        for name, text in setup.get("files", {}).items():
            server.write(name, text)
        server.start(setup["flags"], rest=setup.get("rest", True))
        # The ports open with the first version of each model, perhaps before the others.
        text = setup.get("files", {}).get("models.config", "")
        models = text_format.Parse(text, ModelServerConfig()).model_config_list.config
        for name in [model.name for model in models]:
            server.until(functools.partial(_is_settled, server, name), f"all versions of {name}")
        return server

    def _new_server(self) -> Server:
        server = Server(self._models, self._folder / f"server-{next(self._numbers)}")
        self._servers.append(server)
        return server

    def begin(self, stories: Iterable[dict[str, Any]]) -> None:
        for story in stories:
            self._stories[story["id"]] = self._player.submit(self._play, story)

    def _play(self, story: dict[str, Any]) -> str | None:
        return play(self._new_server(), story)

    def outcome(self, story: str) -> str | None:
        """What went wrong in a story, or None."""
        return self._stories[story].result()

    def close(self) -> None:
        """Stop everything, in the middle of it if need be."""
        for pool in (self._starter, self._player):
            pool.shutdown(wait=False, cancel_futures=True)
        for server in self._servers:
            server.stop()
        for pool in (self._starter, self._player):
            pool.shutdown()
        for server in self._servers:
            server.stop()
