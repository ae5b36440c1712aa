"""What a server serves and what it is to serve, on a server that reads its configuration anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import model_config, served
from deploy.runner import Server, serve
from deploy.served import Kind
from tests.conftest import Version
from tests.deploy.gateway import until
from tfserving_client import Policy

PATIENT = Policy(timeout=30, attempts=1)
FLAGS = (
    "--model_config_file_poll_wait_seconds=1",
    "--num_load_threads=2",
    "--max_num_load_retries=0",
    "--allow_version_labels_for_unavailable_models=true",
)


@dataclass(frozen=True)
class Watched:
    """A server, its configuration and its folder of versions."""

    server: Server
    config: Path
    versions: Path

    def configure(self, *lines: str, model: str = "mnist", path: Path | None = None) -> None:
        """Write the file anew."""
        staged = self.config.with_name("staged")
        staged.write_text(
            f'model_config_list {{ config {{ name: "{model}" model_platform: "tensorflow" '
            f'base_path: "{path or self.versions}" {" ".join(lines)} }} }}'
        )
        staged.rename(self.config)

    def publish(self, number: int, version: Path | None) -> None:
        """A version; None: one that does not load."""
        staged = self.versions / "staged"
        if version is None:
            staged.mkdir()
        else:
            shutil.copytree(version, staged)
        staged.rename(self.versions / str(number))

    def found(self) -> list[tuple[Kind, str]]:
        """What differs, kind and sentence."""
        found = []
        for model in model_config.read(self.config):
            answer = served.ask(self.server.rest_url, model.name, tuple(model.labels), PATIENT)
            assert answer is not None
            found += [(one.kind, one.what) for one in served.differences(model, answer)]
        return found

    def becomes(self, *expected: tuple[Kind, str]) -> None:
        """Wait for exactly these; each sentence by its beginning."""

        def agree() -> bool:
            found = self.found()
            return len(found) == len(expected) and all(
                kind is wanted and what.startswith(text)
                for (kind, what), (wanted, text) in zip(found, expected, strict=True)
            )

        try:
            until(agree)
        except AssertionError:
            raise AssertionError(self.found()) from None


@pytest.fixture
def watched(published: Version, tmp_path: Path) -> Iterator[Watched]:
    versions = tmp_path / "models" / "mnist"
    shutil.copytree(published.path, versions / "1")
    config = tmp_path / "models.config"
    writer = Watched(Server("", "", "", None), config, versions)  # type: ignore[arg-type]
    writer.configure()
    with serve(versions, flags=[f"--model_config_file={config}", *FLAGS]) as server:
        yield Watched(server, config, versions)


def test_a_version_that_failed_matters_until_it_is_history(
    watched: Watched, published: Version
) -> None:
    assert watched.found() == []
    watched.publish(2, None)
    watched.becomes((Kind.FAILED, "version 2 of mnist failed to load: "))
    watched.publish(3, published.path)
    watched.becomes()
    watched.publish(4, None)
    watched.becomes((Kind.FAILED, "version 4 of mnist failed to load: "))
    (watched.versions / "4").rmdir()
    watched.becomes()


def test_a_configuration_that_is_refused_or_wrong(watched: Watched, published: Version) -> None:
    watched.publish(2, published.path)
    watched.becomes()
    labels = [f"version_labels {{ key: '{key}' value: {n} }}" for key, n in (("a", 2), ("b", 1))]
    watched.configure(*labels)  # version 1 is not loaded
    watched.becomes((Kind.CONFIGURATION, "mnist: no version answers to the label 'b'"))
    watched.configure("model_version_policy { specific { versions: 1 versions: 2 } }", *labels)
    watched.becomes()
    watched.configure("model_version_policy { specific { versions: 2 } }")
    watched.becomes()
    # Refused: what was there before goes on being served.
    watched.configure("model_version_policy { specific { versions: 1 } } model_type: TENSORFLOW")
    watched.becomes((Kind.WAITING, "version 1 of mnist is not served yet"))
    (watched.versions / "3").mkdir()
    watched.configure("model_type: TENSORFLOW", "model_version_policy { specific { versions: 4 } }")
    watched.becomes((Kind.CONFIGURATION, "mnist: version 2 is served, which its policy leaves out"))
    watched.configure("model_type: TENSORFLOW", model="other")
    watched.becomes((Kind.CONFIGURATION, "other: the server does not know it"))
    watched.configure(path=watched.versions / "nosuch")
    watched.becomes((Kind.CONFIGURATION, "mnist: its base path "))


def test_what_does_not_answer_as_the_server_does_is_none(closed_port: int) -> None:
    assert served.ask(f"http://127.0.0.1:{closed_port}", "mnist", (), PATIENT) is None
