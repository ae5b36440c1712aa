"""Run by itself, by any Python: the installed client against servers made of nothing but bytes.

    python round_trip.py grpc|rest

Prints as JSON which modules were imported by then. Needs what the client needs, and no more.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MODEL, VERSION, DIGIT = "mnist", 42, 7
WATCHED = (
    "PIL",
    "tfserving_client.grpc.messages",
    "google.protobuf",
    "grpc",
    "h11",
    "tensorflow",
    "urllib3",
)


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def integer(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def tensor(dtype: int, shape: tuple[int, ...], field: int, content: bytes) -> bytes:
    sizes = b"".join(block(2, integer(1, size)) for size in shape)
    return integer(1, dtype) + block(2, sizes) + block(field, content)


def entry(alias: str, value: bytes) -> bytes:
    return block(1, block(1, alias.encode()) + block(2, value))


def grpc_predict_response(images: int) -> bytes:
    import numpy as np

    rows = np.eye(10, dtype="<f4")[[DIGIT] * images]
    spec = block(1, MODEL.encode()) + block(2, integer(1, VERSION))
    return (
        entry("probabilities", tensor(1, (images, 10), 5, rows.tobytes()))
        + entry("digits", tensor(9, (images,), 10, bytes([DIGIT] * images)))
        + block(2, spec)
    )


def serve_grpc(images: Any) -> tuple[str, Any]:
    import grpc

    class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC ships no types
        def service(self, details: Any) -> Any:
            def answer(request: bytes, context: Any) -> bytes:
                if details.method == "/tensorflow.serving.ModelService/GetModelStatus":
                    return block(1, integer(1, VERSION) + integer(2, 30))
                assert details.method == "/tensorflow.serving.PredictionService/Predict"
                if b"absent" in request:
                    context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
                assert b"serving_default" in request
                assert images.tobytes() in request  # pixels travel as they are
                return grpc_predict_response(len(images))

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2), (Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return f"grpc://127.0.0.1:{port}", lambda: server.stop(None).wait()


def serve_rest(images: Any) -> tuple[str, Any]:
    from base64 import b64encode
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            row = [0.0] * DIGIT + [1.0] + [0.0] * (9 - DIGIT)
            answer: dict[str, Any]
            if "absent" in self.path:
                status, answer = 404, {"error": "Servable not found for request"}
            elif self.path == f"/v1/models/{MODEL}":
                entry = {"version": str(VERSION), "state": "AVAILABLE"}
                entry_status = {"error_code": "OK", "error_message": ""}
                status = 200
                answer = {"model_version_status": [{**entry, "status": entry_status}]}
            else:
                assert self.path == f"/v1/models/{MODEL}:predict"
                assert all(b64encode(image.tobytes()) in body for image in images)
                rows = {"probabilities": [row] * len(images), "digits": [DIGIT] * len(images)}
                status, answer = 200, {"outputs": rows}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = reply  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return f"http://127.0.0.1:{server.server_address[1]}", stop


def check(answer: Any, version: int | None, images: int) -> None:
    assert answer.digits.tolist() == [DIGIT] * images
    assert answer.digits.dtype == "int64"
    assert answer.probabilities.shape == (images, 10)
    assert answer.probabilities.dtype == "float32"
    assert answer.version == version


def use(url: str, images: Any, version: int | None) -> None:
    from tfserving_client import AsyncDigitClient, DigitClient, NotFound

    with DigitClient(url, model=MODEL) as digits:
        check(digits.classify(images), version, len(images))
        assert [status.version for status in digits.status()] == [VERSION]
        for part in digits.classify_many(images, batch_size=len(images)):
            check(part, version, 1)
    with DigitClient(url, model="absent") as digits:
        refusal = None
        try:
            digits.classify(images)
        except NotFound as error:
            refusal = error
        assert refusal
        assert refusal.context.model == "absent"

    async def ask() -> None:
        async with AsyncDigitClient(url, model=MODEL) as digits:
            check(await digits.classify(images), version, len(images))
            assert await digits.ready()

    asyncio.run(ask())


def main(protocol: str) -> None:
    import numpy as np

    images = np.random.default_rng(1).integers(0, 256, (3, 28, 28), np.uint8)
    serve, version = (serve_grpc, VERSION) if protocol == "grpc" else (serve_rest, None)
    url, stop = serve(images)
    try:
        use(url, images, version)
    finally:
        stop()
    if protocol == "grpc":
        nothing_in_the_default_pool()
    print(json.dumps([name for name in WATCHED if name in sys.modules]))


def nothing_in_the_default_pool() -> None:
    from google.protobuf import descriptor_pool

    from tfserving_client.grpc import messages

    pool = descriptor_pool.Default()
    file = messages.PredictRequest.DESCRIPTOR.file
    names = [f"tensorflow.{name}" for name in ("TensorProto", "serving.PredictRequest")]
    for name in (*names, *(f"{file.package}.{name}" for name in file.message_types_by_name)):
        try:
            pool.FindMessageTypeByName(name)
        except KeyError:
            continue
        raise AssertionError(f"{name} is in the default pool")
    try:
        pool.FindFileByName(file.name)
    except KeyError:
        return
    raise AssertionError(f"{file.name} is in the default pool")


if __name__ == "__main__":
    main(sys.argv[1])
