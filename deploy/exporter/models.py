"""The models that the server's `models.config` holds, as it is now and as it was."""

from __future__ import annotations

import logging
from pathlib import Path

from deploy import model_config
from deploy.model_config import ConfigError, Model


class Models:
    """The models that are configured now: the server reads the file again while it runs.

    Attributes:
        configured: as they were at the last `read` of a file that could be read.
        former: names that were configured once and are not any more.
        wrong: why the file could not be read the last time; "" if it could.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.configured: tuple[Model, ...] = ()
        self.former: frozenset[str] = frozenset()
        self.wrong = ""

    @property
    def names(self) -> frozenset[str]:
        """All that are or were configured."""
        return self.former.union(model.name for model in self.configured)

    def read(self) -> None:
        """Read the file; keep the models when it cannot be read, as the server does."""
        try:
            found = model_config.read(self._path)
        except ConfigError as error:
            if str(error) != self.wrong:
                logging.warning("left alone: %s", error)
            self.wrong = str(error)
            return
        self.wrong = ""
        self.former = self.names.difference(model.name for model in found)
        self.configured = found
