"""Starts the server that the environment names, as deploy.runner does, and asks it things."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from tensorflow_serving.apis import (  # noqa: F401 (makes their messages known by name)
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    prediction_log_pb2,
)

from deploy.runner import free_ports
from tests.congruence.comparing import Answer
from tests.forks import Fork

PATIENCE = 300.0  # seconds that any state may take to come
IS_LOCAL = not (os.environ.get("SERVING_IMAGE") or os.environ.get("SERVING_BINARY"))

_HELLO = {  # what makes an open port say something
    "grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5),
    "rest": b"GET / HTTP/1.0\r\n\r\n",
}
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

T = TypeVar("T")


class Failed(Exception):
    """The server did not do what was waited for."""


class Server:
    """One process with a folder of its own. `{models}` and `{work}` in texts mean its folders."""

    def __init__(self, models: Path, work: Path) -> None:
        work.mkdir(parents=True)
        self.models, self.work = models, work
        self.port, self.rest_port = free_ports(2)
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.port}", [("grpc.max_receive_message_length", -1)]
        )
        self._log = work / "server.log"
        self._process: subprocess.Popen[bytes] | Fork | None = None
        self._ports = {"grpc": self.port, "rest": self.rest_port}

    # Its life

    def start(self, flags: Mapping[str, str], *, rest: bool = True, wait: bool = True) -> None:
        """Start it; with `wait`, until its ports are open."""
        if not rest:
            del self._ports["rest"]
            self.rest_port = 0
        ports = {"port": str(self.port), "rest_api_port": str(self.rest_port)}
        given = [f"--{k}={self.fill(v)}" for k, v in {**ports, **flags}.items()]
        self._process = self._run(given)
        if wait:
            self.wait_open()

    def _run(self, flags: list[str]) -> subprocess.Popen[bytes] | Fork:
        if IS_LOCAL:
            return Fork("deploy.local", flags, self._log)
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._command(), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _command(self) -> list[str]:
        image = os.environ.get("SERVING_IMAGE")
        if not image:
            return [os.environ["SERVING_BINARY"]]
        return [
            *("docker", "run", "--rm", "--init"),
            *(f"--publish=127.0.0.1:{port}:{port}" for port in self._ports.values()),
            *(f"--volume={folder}:{folder}:ro" for folder in (self.models, self.work)),
            image,
            *("--model_name=default", "--model_base_path="),  # undo what the entry point gives
        ]

    def is_open(self, port: str) -> bool:
        return _says_something(self._ports[port], _HELLO[port])

    def wait_open(self) -> None:
        """Wait for the REST port, which opens last, or for gRPC's where there is no other."""
        last = list(self._ports)[-1]
        self.until(lambda: self.is_open(last), "its ports to open")

    def any_open(self) -> bool:
        return any(self.is_open(port) for port in self._ports)

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def wait_end(self) -> int:
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"still running; {self.said()}") from None

    def until(self, condition: Callable[[], T | None], what: str) -> T:
        """The condition's first true value."""
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            if self.ended():
                raise Failed(f"ended while waited for {what}; {self.said()}")
            if time.monotonic() > end:
                raise Failed(f"waited in vain for {what}; {self.said()}")
            time.sleep(0.1)
        return value

    def stop(self) -> None:
        self.channel.close()
        self.kill()

    def kill(self) -> None:
        """End it at once; it can be started again."""
        if self._process is None:
            return
        # A container would outlive its `docker run`; a process has nothing to tidy up.
        (self._process.terminate if os.environ.get("SERVING_IMAGE") else self._process.kill)()
        self._process.wait()

    def output(self) -> str:
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        return str(self._strip(log))

    def said(self) -> str:
        return "it wrote:\n" + "\n".join(self.output().splitlines()[-15:])

    # Its files

    def fill(self, text: str) -> str:
        return text.replace("{models}", str(self.models)).replace("{work}", str(self.work))

    def _strip(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(str(self.models), "{models}").replace(str(self.work), "{work}")
        if isinstance(value, list):
            return [self._strip(item) for item in value]
        if isinstance(value, dict):
            return {key: self._strip(item) for key, item in value.items()}
        return value

    def write(self, name: str, text: str) -> None:
        """Put a file in its place in one step."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(self.fill(text))
        fresh.rename(path)

    # Its answers

    def ask(self, request: Mapping[str, Any]) -> Answer:
        answer = self._ask_rest(request) if "path" in request else self._ask_grpc(request)
        return dict(self._strip(answer))

    def _ask_grpc(self, request: Mapping[str, Any]) -> Answer:
        if "base64" in request:
            body = base64.b64decode(request["base64"])
        else:
            text = self.fill(json.dumps(request["message"]))
            body = json_format.Parse(text, _message(request["type"])()).SerializeToString()
        try:
            call = self.channel.unary_unary(request["method"])
            reply = call(body, timeout=request.get("timeout", 60))
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details()}
        message = _message(request["reply"]).FromString(reply)
        found = json_format.MessageToDict(message, preserving_proto_field_name=True)
        return {"code": "OK", "message": found}

    def _ask_rest(self, request: Mapping[str, Any]) -> Answer:
        body = base64.b64decode(request.get("body_base64", "")) or request.get("body", "").encode()
        if request.get("gzip"):
            body = gzip.compress(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
        with contextlib.closing(connection):
            try:
                connection.putrequest(request["verb"], request["path"], skip_accept_encoding=True)
                for name, value in request.get("headers", {}).items():
                    connection.putheader(name, value)
                if body or request["verb"] in ("POST", "PUT", "PATCH"):
                    connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body or None)
                reply = connection.getresponse()
                text = reply.read().decode(errors="surrogateescape")
            except (OSError, http.client.HTTPException) as error:
                return {"status": None, "type": None, "body": repr(error)}
        kind = reply.getheader("Content-Type")
        answer: Answer = {"status": reply.status, "type": kind, "body": text}
        if names := request.get("show_headers"):
            answer["headers"] = {name: reply.getheader(name) for name in names}
        return answer

    def states(self, model: str) -> dict[str, str] | None:
        """Version to state; None while it cannot be asked."""
        answer = self._ask_grpc(
            {
                "method": _STATUS,
                "type": "tensorflow.serving.GetModelStatusRequest",
                "reply": "tensorflow.serving.GetModelStatusResponse",
                "message": {"model_spec": {"name": model}},
            }
        )
        if answer["code"] != "OK":
            return {} if answer["code"] == "NOT_FOUND" else None
        versions = answer["message"]["model_version_status"]
        return {each["version"]: each["state"] for each in versions}


def _says_something(port: int, hello: bytes) -> bool:
    """Whether a server answers there; Docker's proxy alone accepts and says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(hello)
            return bool(connection.recv(1))
    except OSError:
        return False


def _health_pool() -> Any:
    """The health service's messages, in a pool of their own: their package may be there or not."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="health.proto", package="grpc.health.v1")
    for message, name, kind in (
        ("HealthCheckRequest", "service", field.TYPE_STRING),
        ("HealthCheckResponse", "status", field.TYPE_INT32),
    ):
        file.message_type.add(name=message).field.add(
            name=name, number=1, type=kind, label=field.LABEL_OPTIONAL
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_HEALTH = _health_pool()


def _message(name: str) -> Any:
    pool = _HEALTH if name.startswith("grpc.health.") else descriptor_pool.Default()
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
