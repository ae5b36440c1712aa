"""The declared messages are the official ones: what one writes, the other reads."""

from __future__ import annotations

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig as Official

from deploy.server_messages import ModelServerConfig


def test_every_field_is_the_official_one() -> None:
    ours = ModelServerConfig(
        model_config_list={
            "config": [
                {
                    "name": "mnist",
                    "base_path": "/models/mnist",
                    "model_type": 1,
                    "model_platform": "tensorflow",
                    "model_version_policy": {"specific": {"versions": [3, 5]}},
                    "version_labels": {"stable": 3},
                    "logging_config": {
                        "log_collector_config": {"type": "file", "filename_prefix": "/tmp/x"},
                        "sampling_config": {"sampling_rate": 0.5},
                    },
                },
                {"model_version_policy": {"latest": {"num_versions": 2}}},
                {"model_version_policy": {"all": {}}},
            ]
        }
    )
    official = Official.FromString(ours.SerializeToString())
    assert str(official) == str(ours)
    ours = ModelServerConfig(custom_model_config={"type_url": "x/y", "value": b"z"})
    assert Official.FromString(ours.SerializeToString()).custom_model_config.value == b"z"
