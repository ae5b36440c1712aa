"""The REST port: TensorFlow Serving's URLs under /v1/, the drawing page, and 404 pages."""

import asyncio
import concurrent.futures
import json
import logging
import re
import urllib.parse
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from deploy.local import metrics, prometheus
from deploy.local.errors import HTTP_STATUS, ServingError, invalid
from deploy.local.handlers import inference
from deploy.local.handlers.classification import CLASSIFY, REGRESS, Kind
from deploy.local.handlers.prediction import as_given, predict
from deploy.local.handlers.rpcs import SIGNATURE_DEF, Handlers
from deploy.local.models.servable import DEFAULT_SIGNATURE
from deploy.local.rest import answers, examples, page, requests

_MODEL = r"/v1/models/([^/:]+)"
_VERSION = r"(?:/versions/(\d+)|/labels/([^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_KINDS = {"classify": CLASSIFY, "regress": REGRESS}
_POST = re.compile(f"{_MODEL}{_VERSION}:(classify|regress|predict)", _FLAGS)
_GET = re.compile(rf"/v1/models(?:/([^/:]+))?{_VERSION}(?:/(metadata))?", _FLAGS)
# What libevent's strict URI parser lets pass; the rest never reaches the API.
_URI = re.compile(r"(?:[\w.~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*(?:#.*)?", _FLAGS)
_ORIGIN = re.compile(r"https?://")
_AUTHORITY = re.compile(r"^(?:[a-z][\w+.-]*:)?//[^/?#]*", _FLAGS)  # only what follows counts

_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
_INFLATED_LIMIT = 100 * 2**20
_LINE_LIMIT = 2**20
_REASONS = {400: "Bad Request", 404: "Not Found", 501: "Not Implemented"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}

_log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """An answer: status, Content-Type, body."""

    status: int
    content_type: str
    body: bytes


def _html(status: int) -> Reply:
    """The HTTP library's own page."""
    reason = _REASONS[status]
    text = (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{reason}</H1>\n</BODY></HTML>\n"
    )
    return Reply(status, "text/html", text.encode())


class RestServer:
    """Answers HTTP requests from the handlers.

    Args:
        handlers: what to answer.
        threads: size of the pool in which requests are read, run and written.
        timeout_ms: bound of a model run; 0: none.
        cors: send CORS headers.
        folder: the page's; see `page`.
        metrics_path: where the metrics are; empty: nowhere.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        threads: int,
        timeout_ms: int = 0,
        cors: bool = False,
        folder: Path = page.PAGE,
        metrics_path: str = "",
    ) -> None:
        self._handlers = handlers
        self._timeout_ms = max(0, timeout_ms)
        self._cors = cors
        self._page = folder
        self._metrics_path = metrics_path
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="rest")

    def runner(self, drain_seconds: float) -> web.ServerRunner:
        """An aiohttp server without ports yet; closing it waits so long for running requests."""
        server = web.Server(
            self._respond,
            # The body must arrive as sent: which encodings are undone is decided here.
            auto_decompress=False,
            max_line_size=_LINE_LIMIT,
            max_field_size=_LINE_LIMIT,
            access_log=None,
        )
        return web.ServerRunner(server, shutdown_timeout=drain_seconds)

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        target = _AUTHORITY.sub("", request.raw_path)
        if request.method not in _METHODS:
            return _response(_html(501), close=True)
        if not _URI.fullmatch(target):
            return _response(_html(400), close=True)
        if self._metrics_path and target.partition("?")[0] == self._metrics_path:
            return _response(self._metrics(target))
        if not target.lower().startswith("/v1/"):
            return self._file(request)
        headers = _CORS if self._cors else {}
        if request.method == "OPTIONS":
            return _preflight(request.headers.get("Origin", ""), headers)
        if request.transport and request.headers.get("Expect", "").lower() == "100-continue":
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            body = await request.content.read()
        except ConnectionResetError:  # the caller is gone; the answer is not sent
            return _response(_html(400), close=True)
        zipped = "gzip" in request.headers.get("Content-Encoding", "")
        reply = await asyncio.get_running_loop().run_in_executor(
            self._pool, self._answer, request.method, target, body, zipped
        )
        return _response(reply, headers)

    def _metrics(self, target: str) -> Reply:
        if target != self._metrics_path:
            text = f"Unexpected path: {target}. Should be {self._metrics_path}"
            return Reply(400, "text/plain", text.encode())
        return Reply(200, "text/plain", prometheus.page().encode())

    def _file(self, request: web.BaseRequest) -> web.Response:
        """A file of the page, or the 404 that the real server gives."""
        if request.raw_path == page.MODELS:
            names = json.dumps({"models": self._handlers.models.names()})
            return _response(Reply(200, "application/json", names.encode()), page.HEADERS)
        if request.method in ("GET", "HEAD") and (file := page.read(self._page, request.raw_path)):
            return _response(Reply(200, file.content_type, file.body), page.HEADERS)
        return _response(_html(404), close=True)

    # The API

    def _answer(self, method: str, target: str, data: bytes, zipped: bool) -> Reply:
        pattern = {"POST": _POST, "GET": _GET}.get(method)
        match = pattern.fullmatch(target) if pattern else None
        model = _unescape(match[1] or "") if match else ""
        verb = match[4] if match and method == "POST" else ""
        try:
            with metrics.request(model, verb, "REST"):
                if not match:
                    raise invalid(f"Malformed request: {method} {target}")
                text = self._route(method, match, gunzip(data) if zipped else data)
            return Reply(200, "application/json", text)
        except ServingError as error:
            status, message = HTTP_STATUS[error.code], error.message
        except Exception as error:  # a bug of this server fails only one request
            _log.exception("request failed")
            status, message = 500, f"{type(error).__name__}: {error}"
        body = answers.write_error(message) if message else b""
        return Reply(status, "application/json", body)

    def _route(self, method: str, match: re.Match[str], body: bytes) -> bytes:
        spec, verb = _spec(*match.groups()[:3]), match[4]
        if method == "POST":
            if verb in _KINDS:
                return self._infer(_KINDS[verb], spec, body)
            if verb == "predict":
                return self._predict(spec, body)
        elif not spec.name:
            raise invalid("Missing model name in request.")
        else:
            return self._metadata(spec) if verb == "metadata" else self._status(spec)
        raise invalid(f"Malformed request: {method} {match.string}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        request = requests.read_predict(body)
        with self._handlers.models.borrow(spec) as servable:
            name = request.signature_name or DEFAULT_SIGNATURE
            if name not in servable.signatures:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            inputs, by_row = request.inputs(servable.signatures[name].inputs)
            outputs = predict(
                servable,
                name,
                inputs,
                as_given,
                timeout_ms=self._timeout_ms,
                check_method=self._handlers.check_method,
            )
        return answers.write_predict(outputs, by_row=by_row)

    def _infer(self, kind: Kind, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        name, batch = examples.from_json(body)
        with self._handlers.models.borrow(spec) as servable:
            result = inference.run(
                servable,
                kind,
                name,
                batch,
                timeout_ms=self._timeout_ms,
                check_method=self._handlers.check_method,
            )
        return answers.write_results(result)

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return _message_json(self._handlers.status(request)).encode()

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[SIGNATURE_DEF]
        )
        response = self._handlers.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        parts = _message_json(response.model_spec), _message_json(signatures)
        text = '{{\n"model_spec":{},\n"metadata": {{"signature_def": {}}}\n}}\n'.format(*parts)
        return text.encode()


def _spec(name: str | None, number: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=_unescape(name or ""))
    if number:
        digits = number.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise invalid("")  # the real server answers this one with an empty body
        spec.version.value = int(digits)
    if label:
        spec.version_label = _unescape(label)
    return spec


def _unescape(text: str) -> str:
    return urllib.parse.unquote(text, errors="replace")


def _message_json(message: Any) -> str:
    """A message as protobuf's C++ JSON printer lays it out, every plain field included."""
    value = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    text = json.dumps(_without_fractions(value), indent=1, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e") + "\n"


def _without_fractions(value: Any) -> Any:
    """Whole floats as C++ prints them, up to the six digits that it has for a float."""
    if isinstance(value, dict):
        return {name: _without_fractions(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_fractions(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return int(value)
    return value


def gunzip(body: bytes) -> bytes:
    """An inflated body; nothing if it is no whole gzip file or too large."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        data = inflater.decompress(body, _INFLATED_LIMIT)
    except zlib.error:
        return b""
    return data if inflater.eof and not inflater.unused_data else b""


def _preflight(origin: str, headers: Mapping[str, str]) -> web.Response:
    status = 200 if _ORIGIN.match(origin) else 400
    return _response(Reply(status, "text/html; charset=ISO-8859-1", b""), headers)


def _response(
    reply: Reply, headers: Mapping[str, str] | None = None, *, close: bool = False
) -> web.Response:
    response = web.Response(
        status=reply.status,
        body=reply.body,
        headers={**(headers or {}), "Content-Type": reply.content_type},
    )
    if close:
        response.force_close()
    return response
