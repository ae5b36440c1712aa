"""The models in the server's `models.config`, now and earlier."""

from __future__ import annotations

import logging
from pathlib import Path

from deploy import model_config
from deploy.model_config import ConfigError, Model


class Models:
    """The configured models; the file is read again at each scrape, as the server does.

    Attributes:
        configured: the models at the last `read` that succeeded.
        former: names that were configured earlier.
        wrong: why the last `read` failed; "" if it did not.
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
        """Read the file; if it cannot be read, keep the models, as the server does."""
        try:
            found = model_config.read(self._path)
        except ConfigError as error:
            if str(error) != self.wrong:
                logging.warning("keeping the models that were read before: %s", error)
            self.wrong = str(error)
            return
        self.wrong = ""
        self.former = self.names.difference(model.name for model in found)
        self.configured = found
