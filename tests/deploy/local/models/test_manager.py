"""The manager over pretended models: a version folder's file `fault` says how loading fails."""

import contextlib
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorflow_serving.apis import model_management_pb2, model_pb2
from tensorflow_serving.config.model_server_config_pb2 import (
    ModelConfig,
    ModelConfigList,
    ModelServerConfig,
)

from deploy.local.errors import Code, ServingError
from deploy.local.handlers.rpcs import Handlers
from deploy.local.models.manager import ModelManager, State


class Pretended:
    """Stands for a Servable."""

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version, self.closed = name, version, False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Starts a manager of one model `m` in the folder given; the list of its load attempts."""
    managers = []

    def start_manager(
        base: Any = tmp_path / "m",
        labels: Any = None,
        hold: Any = None,
        keep_all: bool = False,
        **options: Any,
    ) -> tuple[ModelManager, list[int]]:
        attempts: list[int] = []

        def load(name: str, version: int, path: Path) -> Any:
            attempts.append(version)
            if hold and version in hold:
                hold[version].wait(60)
            with contextlib.suppress(FileNotFoundError):
                raise ServingError(Code.DATA_LOSS, (path / "fault").read_text())
            return Pretended(name, version)

        options = {"poll_seconds": 0.05, "retries": 0, "load_threads": 2, **options}
        manager = ModelManager(load, **options)
        model = ModelConfig(name="m", base_path=str(base), model_platform="tensorflow")
        model.version_labels.update(labels or {})
        if keep_all:
            model.model_version_policy.all.SetInParent()
        manager.apply(ModelServerConfig(model_config_list=ModelConfigList(config=[model])))
        managers.append(manager)
        manager.start()
        return manager, attempts

    yield start_manager
    for manager in managers:
        manager.stop()


@pytest.fixture
def publish(tmp_path: Path) -> Any:
    """Makes a version appear at once, broken or not."""

    def publish_version(name: str, fault: str | None = None) -> Path:
        staged = tmp_path / "m" / f".new-{name}"
        staged.mkdir(parents=True)
        if fault:
            (staged / "fault").write_text(fault)
        return staged.rename(tmp_path / "m" / name)

    return publish_version


def states(manager: ModelManager) -> dict[int, str]:
    return {number: state.name for number, state, _ in manager.states("m")}


def spec(
    version: int | None = None, label: str | None = None, name: str = "m"
) -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name=name)
    if version is not None:
        made.version.value = version
    if label is not None:
        made.version_label = label
    return made


def served(manager: ModelManager, **kwargs: Any) -> int:
    with manager.borrow(spec(**kwargs)) as servable:
        return servable.version


def refusal(manager: ModelManager, **kwargs: Any) -> str:
    with pytest.raises(ServingError) as caught, manager.borrow(spec(**kwargs)):
        pass
    return str(caught.value)


def test_the_highest_version_is_served_and_a_higher_one_replaces_it(
    start: Any, publish: Any, until: Any
) -> None:
    publish("2")
    publish("not-a-number")
    manager, _ = start()
    manager.wait(["m"])
    assert served(manager) == 2
    publish("0010")
    until(lambda: states(manager) == {10: "AVAILABLE", 2: "END"}, "the switch")
    assert list(states(manager)) == [10, 2]
    assert served(manager) == served(manager, version=10) == 10
    assert refusal(manager, version=2) == (
        "NOT_FOUND: Servable not found for request: Specific(m, 2)"
    )


def test_the_old_version_serves_until_the_new_one_is_ready(
    start: Any, publish: Any, until: Any
) -> None:
    ready = threading.Event()
    publish("1")
    manager, _ = start(hold={2: ready})
    manager.wait(["m"])
    publish("2")
    until(lambda: states(manager).get(2) == "LOADING", "loading")
    assert served(manager) == 1
    ready.set()
    until(lambda: states(manager) == {1: "END", 2: "AVAILABLE"}, "the switch")


def test_unloading_waits_for_borrowers(start: Any, publish: Any, until: Any) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    with manager.borrow(spec()) as old:
        publish("2")
        until(lambda: states(manager) == {1: "UNLOADING", 2: "AVAILABLE"}, "unloading")
        assert served(manager) == 2
        assert not old.closed
    until(lambda: states(manager)[1] == "END", "the end")
    assert old.closed


def test_a_failed_version_leaves_the_old_one(start: Any, publish: Any, until: Any) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    publish("2", fault="broken")
    until(lambda: states(manager) == {1: "AVAILABLE", 2: "END"}, "the failure")
    assert str(manager.states("m")[0][2]) == "DATA_LOSS: broken"
    assert served(manager) == 1
    publish("3")
    until(lambda: states(manager) == {1: "END", 2: "END", 3: "AVAILABLE"}, "version 3")


def test_while_a_wanted_version_is_awaited_only_the_newest_of_the_others_stays(
    start: Any, publish: Any, until: Any, tmp_path: Path
) -> None:
    for number in "123":
        publish(number)
    publish("9", fault="broken")
    manager, _ = start(keep_all=True)
    until(lambda: set(states(manager).values()) == {"AVAILABLE", "END"}, "the others")
    model = ModelConfig(name="m", base_path=str(tmp_path / "m"), model_platform="tensorflow")
    model.model_version_policy.specific.versions.append(9)
    manager.apply(ModelServerConfig(model_config_list=ModelConfigList(config=[model])))
    until(lambda: states(manager)[2] == "END", "the unloading")
    assert states(manager) == {1: "END", 2: "END", 3: "AVAILABLE", 9: "END"}


def test_a_failed_number_is_never_tried_again(start: Any, publish: Any, until: Any) -> None:
    publish("1")
    manager, attempts = start(keep_all=True)
    manager.wait(["m"])
    broken = publish("2", fault="broken")
    until(lambda: states(manager).get(2) == "END", "the failure")
    broken.rename(broken.with_name("away"))
    publish("2")
    for number in (3, 4):  # whoever finds these has seen the new 2 as well
        publish(str(number))
        until(lambda number=number: states(manager).get(number) == "AVAILABLE", "a later version")
    assert states(manager) == {1: "AVAILABLE", 2: "END", 3: "AVAILABLE", 4: "AVAILABLE"}
    assert attempts == [1, 2, 3, 4]


def test_deleting_the_newest_rolls_back_and_it_may_return(
    start: Any, publish: Any, until: Any
) -> None:
    publish("1")
    newest = publish("2")
    manager, _ = start()
    manager.wait(["m"])
    assert states(manager) == {2: "AVAILABLE"}
    newest.rename(newest.with_name("away"))
    until(lambda: states(manager) == {1: "AVAILABLE", 2: "END"}, "the rollback")
    newest.with_name("away").rename(newest)
    until(lambda: states(manager) == {1: "END", 2: "AVAILABLE"}, "the return")


def test_an_emptied_folder_unloads_everything(start: Any, publish: Any, until: Any) -> None:
    only = publish("1")
    manager, _ = start()
    manager.wait(["m"])
    only.rename(only.with_name("away"))
    until(lambda: states(manager) == {1: "END"}, "the end")
    assert refusal(manager) == "NOT_FOUND: Servable not found for request: Latest(m)"


def test_a_removed_base_path_changes_nothing(
    start: Any, publish: Any, until: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    (tmp_path / "m").rename(tmp_path / "gone")
    until(lambda: "Could not find base path" in caplog.text, "the complaint")
    assert states(manager) == {1: "AVAILABLE"}


def test_retries(start: Any, publish: Any, until: Any) -> None:
    broken = publish("1", fault="broken")
    manager, attempts = start(retries=1000, retry_seconds=0.01)
    until(lambda: len(attempts) > 2, "a few tries")
    assert manager.states("m") == [(1, State.LOADING, None)]
    (broken / "fault").unlink()
    manager.wait(["m"])
    assert served(manager) == 1


def test_a_first_version_that_fails_is_reported(start: Any, publish: Any) -> None:
    publish("1", fault="broken")
    manager, _ = start()
    with pytest.raises(ServingError) as caught:
        manager.wait(["m"])
    assert str(caught.value) == (
        "UNKNOWN: 1 servable(s) did not become available:"
        " {{{name: m version: 1} due to error: DATA_LOSS: broken}, }"
    )


def test_stop_ends_the_wait_for_a_version(start: Any, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    manager, _ = start()
    waiting = threading.Thread(target=manager.wait, args=[["m"]])
    waiting.start()
    manager.stop()
    waiting.join(60)
    assert not waiting.is_alive()


def test_removed_models_are_unloaded(start: Any, publish: Any, until: Any) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    manager.apply(ModelServerConfig(model_config_list=ModelConfigList()))
    until(lambda: states(manager) == {1: "END"}, "the end")


def test_labels(start: Any, publish: Any) -> None:
    publish("1")
    manager, _ = start(labels={"stable": 1, "next": 2}, free_labels=True)
    manager.wait(["m"])
    assert served(manager, label="stable") == 1
    assert refusal(manager, label="next") == (
        "NOT_FOUND: Servable not found for request: Specific(m, 2)"
    )
    unrecognized = "INVALID_ARGUMENT: Unrecognized servable version label: x"
    assert refusal(manager, label="x") == unrecognized
    assert refusal(manager, label="x", name="nosuch") == unrecognized


def test_a_label_may_not_point_at_a_version_that_is_not_loaded(start: Any) -> None:
    with pytest.raises(ServingError) as caught:
        start(labels={"stable": 1})
    assert str(caught.value) == (
        "FAILED_PRECONDITION: Request to assign label to version 1 of model m, which is not"
        " currently available for inference"
    )


def test_a_request_needs_a_name(start: Any, publish: Any) -> None:
    publish("1")
    manager, _ = start()
    assert refusal(manager, name="") == "INVALID_ARGUMENT: ModelSpec has no name specified."


# Reloading


def config(*names: str, root: Path, **fields: Any) -> ModelServerConfig:
    """A configuration of models whose base paths are named like them."""
    made = ModelServerConfig(model_config_list=ModelConfigList())
    for name in names:
        made.model_config_list.config.add(
            **{"name": name, "base_path": str(root / name), "model_platform": "tensorflow"} | fields
        )
    return made


def test_only_new_names_are_waited_for(start: Any, publish: Any, tmp_path: Path) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    assert manager.apply(config("m", root=tmp_path)) == set()
    assert manager.apply(config("m", "n", root=tmp_path)) == {"n"}


def test_a_reload_that_waits_lets_others_through(start: Any, publish: Any, tmp_path: Path) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    new = manager.apply(config("m", "missing", root=tmp_path))
    with pytest.raises(ServingError) as caught:
        manager.wait(new, 0.01)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    waiting = threading.Thread(target=manager.wait, args=[new])
    waiting.start()
    manager.apply(config("m", root=tmp_path))
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_model_that_failed_fails_again_when_it_comes_back(
    start: Any, publish: Any, tmp_path: Path
) -> None:
    publish("1", fault="broken")
    manager, attempts = start()
    text = "1 {} did not become available: {{{{{{name: m version: 1}} due to error: DATA_LOSS:"
    with pytest.raises(ServingError, match=re.escape(text.format("servable(s)"))):
        manager.wait(["m"])
    manager.apply(config(root=tmp_path))
    new = manager.apply(config("m", root=tmp_path))
    with pytest.raises(ServingError, match=re.escape(text.format("model(s)"))):
        manager.wait(new)
    assert attempts == [1]


def test_a_model_that_comes_back_at_once_is_ready(start: Any, publish: Any, tmp_path: Path) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    manager.apply(config(root=tmp_path))
    manager.wait(manager.apply(config("m", root=tmp_path)))
    assert served(manager) == 1


def test_no_list_may_follow_a_list(start: Any) -> None:
    manager, _ = start()
    with pytest.raises(ServingError, match="It is only legal to transition from one ModelConfig"):
        manager.apply(ModelServerConfig())


def test_platforms_are_compared_with_what_was_asked_for_last(start: Any, tmp_path: Path) -> None:
    manager, _ = start()
    for fields, message in (
        ({"model_platform": "onnx"}, "Model n requests unsupported platform onnx"),
        (
            {},
            "Illegal to change a model's platform. For model n platform was onnx and new platform"
            " requested is tensorflow",
        ),
    ):
        with pytest.raises(ServingError) as caught:
            manager.apply(config("n", root=tmp_path, **fields))
        assert caught.value.message == message
    assert manager.apply(config("m", root=tmp_path)) == set()


def test_metric_names_are_echoed(start: Any, publish: Any, tmp_path: Path) -> None:
    publish("1")
    manager, _ = start()
    manager.wait(["m"])
    request = model_management_pb2.ReloadConfigRequest(metric_names=["/tensorflow/a", "b"])
    request.config.CopyFrom(config("m", root=tmp_path))
    answer = Handlers(manager).reload(request)
    assert [(each.name, each.int64_value_increase) for each in answer.metric] == [
        ("/tensorflow/a", 0),
        ("b", 0),
    ]


def test_request_logging_is_refused_after_the_models_are_taken_over(
    start: Any, tmp_path: Path
) -> None:
    manager, _ = start()
    request = model_management_pb2.ReloadConfigRequest(config=config(root=tmp_path))
    request.config.model_config_list.config.add(
        name="m", base_path=str(tmp_path), model_platform="tensorflow"
    ).logging_config.SetInParent()
    with pytest.raises(ServingError, match=r"No request-logger-creator provided\."):
        Handlers(manager).reload(request)
    assert manager.apply(request.config) == set()
