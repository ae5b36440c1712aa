"""The answers of the server, for gRPC and REST alike.

Each RPC is a method from request message to response message. What they run, `prediction`
and `inference`, serves REST and warm-up as well.
"""

from typing import Any

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from deploy.local import tensors
from deploy.local.errors import Code, ServingError, as_unicode, invalid
from deploy.local.handlers import examples, inference
from deploy.local.handlers.classification import CLASSIFY, KINDS, REGRESS, Kind
from deploy.local.handlers.prediction import predict
from deploy.local.models import config as model_config
from deploy.local.models.manager import ModelManager
from deploy.local.models.servable import DEFAULT_SIGNATURE

SIGNATURE_DEF = "signature_def"


class Handlers:
    """The RPCs over a manager's models.

    Args:
        models: where loaded versions come from.
        check_method: refuse signatures whose method name is none of the three known.
        as_content: answer Predict with tensor_content instead of typed fields.
    """

    def __init__(
        self, models: ModelManager, *, check_method: bool = False, as_content: bool = False
    ) -> None:
        self.models = models
        self.check_method = check_method
        self._as_content = as_content

    def predict(
        self, request: predict_pb2.PredictRequest, timeout_ms: int = 0
    ) -> predict_pb2.PredictResponse:
        """Predict; `timeout_ms` bounds the run, 0 does not.

        Raises:
            ServingError: by the rules of PredictionService.
        """
        spec = _spec(request)
        with self.models.borrow(spec) as servable:
            outputs = predict(
                servable,
                spec.signature_name,
                request.inputs,
                tensors.decode,
                request.output_filter,
                timeout_ms=timeout_ms,
                check_method=self.check_method,
            )
            version = servable.version
        response = predict_pb2.PredictResponse()
        _answer_spec(response.model_spec, spec, version)
        for alias, array in outputs.items():
            tensors.encode(array, response.outputs[alias], as_content=self._as_content)
        return response

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout_ms: int = 0
    ) -> classification_pb2.ClassificationResponse:
        """Classify.

        Raises:
            ServingError: by the rules of PredictionService.
        """
        response = classification_pb2.ClassificationResponse()
        self._infer(CLASSIFY, request, response, timeout_ms)
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_ms: int = 0
    ) -> regression_pb2.RegressionResponse:
        """Regress.

        Raises:
            ServingError: by the rules of PredictionService.
        """
        response = regression_pb2.RegressionResponse()
        self._infer(REGRESS, request, response, timeout_ms)
        return response

    def _infer(self, kind: Kind, request: Any, response: Any, timeout_ms: int) -> None:
        spec = _spec(request)
        with self.models.borrow(spec) as servable:
            result = inference.run(
                servable,
                kind,
                spec.signature_name,
                examples.from_message(request.input),
                timeout_ms=timeout_ms,
                check_method=self.check_method,
            )
            _answer_spec(response.model_spec, spec, servable.version)
        kind.fill(result, response.result)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout_ms: int = 0
    ) -> inference_pb2.MultiInferenceResponse:
        """MultiInference; the first task says which version answers all of them.

        Raises:
            ServingError: by the rules of PredictionService.
        """
        response = inference_pb2.MultiInferenceResponse()
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self.models.borrow(spec) as servable:
            results = inference.run_tasks(
                servable,
                request.tasks,
                examples.from_message(request.input),
                timeout_ms=timeout_ms,
                check_method=self.check_method,
            )
            version = servable.version
        for task, result in zip(request.tasks, results, strict=True):
            kind, row = KINDS[task.method_name], response.results.add()
            _answer_spec(row.model_spec, task.model_spec, version)
            message = getattr(row, f"{kind.noun}_result")
            message.SetInParent()
            kind.fill(result, message)
        return response

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, _timeout_ms: int = 0
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """GetModelMetadata: all signatures of one loaded version.

        Raises:
            ServingError: no spec, no or another field than signature_def, nothing loaded.
        """
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.models.borrow(spec) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest, _timeout_ms: int = 0
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """GetModelStatus: every version ever wanted, or the one asked for; labels are ignored.

        Raises:
            ServingError: no spec, or a model or version never wanted.
        """
        spec = _spec(request)
        states = self.models.states(spec.name)
        what = "any versions"
        if spec.HasField("version"):
            states = [row for row in states if row[0] == spec.version.value]
            what = f"version {spec.version.value}"
        if not states:
            raise ServingError(Code.NOT_FOUND, f"Could not find {what} of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, error in states:
            entry = response.model_version_status.add(version=number, state=int(state))
            entry.status.SetInParent()
            if error:
                entry.status.error_code = int(error.code)
                entry.status.error_message = as_unicode(error.message)
        return response

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, timeout_ms: int = 0
    ) -> model_management_pb2.ReloadConfigResponse:
        """HandleReloadConfigRequest; waits for models that are new, not for new versions.

        Raises:
            ServingError: the configuration is refused, or a new model does not load.
        """
        if not request.config.HasField("model_config_list"):
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only"
                " ModelConfigList is currently supported"
            )
        self.models.wait(self.models.apply(request.config), timeout_ms / 1000 or None)
        model_config.check_logging(request.config.model_config_list.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=0)
        return response


def _spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _answer_spec(answer: model_pb2.ModelSpec, asked: model_pb2.ModelSpec, version: int) -> None:
    """Say who answered: the version always, the label never."""
    answer.name = asked.name
    answer.version.value = version
    answer.signature_name = asked.signature_name or DEFAULT_SIGNATURE
