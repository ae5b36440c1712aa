"""ModelServerConfig defined here, because its package depends on TensorFlow.

Source: tensorflow_serving/config/model_server_config.proto and
tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto of 2.21. Of
`logging_config`, which the server refuses, only the usual fields are here.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, text_format

_DECLARED = """
name: "deploy/server_messages.proto" package: "checks" syntax: "proto3"
dependency: "google/protobuf/any.proto"
message_type { name: "Collector"
  field { name: "type" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "filename_prefix" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING } }
message_type { name: "Sampling"
  field { name: "sampling_rate" number: 1 label: LABEL_OPTIONAL type: TYPE_DOUBLE } }
message_type { name: "Logging"
  field { name: "log_collector_config" number: 1 label: LABEL_OPTIONAL
          type_name: ".checks.Collector" }
  field { name: "sampling_config" number: 2 label: LABEL_OPTIONAL type_name: ".checks.Sampling" } }
message_type { name: "Latest"
  field { name: "num_versions" number: 1 label: LABEL_OPTIONAL type: TYPE_UINT32 } }
message_type { name: "All" }
message_type { name: "Specific"
  field { name: "versions" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Policy"
  field { name: "latest" number: 100 label: LABEL_OPTIONAL type_name: ".checks.Latest"
          oneof_index: 0 }
  field { name: "all" number: 101 label: LABEL_OPTIONAL type_name: ".checks.All" oneof_index: 0 }
  field { name: "specific" number: 102 label: LABEL_OPTIONAL type_name: ".checks.Specific"
          oneof_index: 0 }
  oneof_decl { name: "policy_choice" } }
message_type { name: "Model"
  field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "base_path" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "model_type" number: 3 label: LABEL_OPTIONAL type_name: ".checks.ModelType" }
  field { name: "model_platform" number: 4 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "logging_config" number: 6 label: LABEL_OPTIONAL type_name: ".checks.Logging" }
  field { name: "model_version_policy" number: 7 label: LABEL_OPTIONAL type_name: ".checks.Policy" }
  field { name: "version_labels" number: 8 label: LABEL_REPEATED type_name: ".checks.Model.Label" }
  nested_type { name: "Label" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_INT64 } } }
message_type { name: "Models"
  field { name: "config" number: 1 label: LABEL_REPEATED type_name: ".checks.Model" } }
message_type { name: "Server"
  field { name: "model_config_list" number: 1 label: LABEL_OPTIONAL type_name: ".checks.Models"
          oneof_index: 0 }
  field { name: "custom_model_config" number: 2 label: LABEL_OPTIONAL
          type_name: ".google.protobuf.Any" oneof_index: 0 }
  oneof_decl { name: "config" } }
enum_type { name: "ModelType"
  value { name: "MODEL_TYPE_UNSPECIFIED" number: 0 } value { name: "TENSORFLOW" number: 1 }
  value { name: "OTHER" number: 2 } }
"""


def _server_config() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    file = text_format.Parse(_DECLARED, descriptor_pb2.FileDescriptorProto())
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("checks.Server"))


ModelServerConfig = _server_config()
