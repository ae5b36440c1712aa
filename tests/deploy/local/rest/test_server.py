import gzip
import http.client
import json
from typing import Any

import pytest

from deploy.local.rest.server import gunzip

ONE = '{"instances":[1.0]}'
ZIPPED = gzip.compress(ONE.encode(), mtime=0)
JSON = "application/json"


def error(message: str) -> str:
    return f'{{\n    "error": "{message}"\n}}'


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/models/line:predict", 4.5),
        ("/V1/Models/li%6Ee/VERSIONS/002:predict", 3.5),
        ("/v1/models/line/labels/stable:predict", 2.5),
        ("http://somewhere/v1/models/line:predict", 4.5),
    ],
)
def test_predict(server: Any, path: str, answer: float) -> None:
    expected = f'{{\n    "predictions": [{answer}\n    ]\n}}'
    assert server.rest("POST", path, ONE) == (200, JSON, expected)


def test_named_rows_and_columns(server: Any) -> None:
    body = '{"instances": [{"a": 1.5, "b": 2}, {"a": 2.5, "b": 3}]}'
    status, _, text = server.rest("POST", "/v1/models/shapes:predict", body)
    assert status == 200
    assert json.loads(text) == {"predictions": [{"sum": 3.5, "b": 2}, {"sum": 5.5, "b": 3}]}
    body = '{"inputs": {"a": [1.5], "b": [2]}}'
    text = server.rest("POST", "/v1/models/shapes:predict", body)[2]
    assert json.loads(text) == {"outputs": {"sum": [3.5], "b": [2]}}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (
            ":predict",
            "{bad",
            400,
            "JSON Parse error: Missing a name for object member. at offset: 1",
        ),
        (
            ":predict",
            '{"signature_name": "x"}',
            400,
            'Serving signature name: \\"x\\" not found in signature def',
        ),
        ("/versions/9:predict", ONE, 404, "Servable not found for request: Specific(line, 9)"),
        ("/labels/x:predict", ONE, 400, "Unrecognized servable version label: x"),
        (":PREDICT", ONE, 400, "Malformed request: POST /v1/models/line:PREDICT"),
        (":predict?x=1", ONE, 400, "Malformed request: POST /v1/models/line:predict?x=1"),
        (
            "/versions/1/labels/a:predict",
            ONE,
            400,
            "Malformed request: POST /v1/models/line/versions/1/labels/a:predict",
        ),
        ("", ONE, 400, "Malformed request: POST /v1/models/line"),
    ],
)
def test_refused_posts(server: Any, path: str, body: Any, status: int, message: str) -> None:
    assert server.rest("POST", "/v1/models/line" + path, body) == (status, JSON, error(message))


def test_a_fault_of_json_comes_before_an_unknown_model(server: Any) -> None:
    assert server.rest("POST", "/v1/models/x:predict", "")[2] == error(
        "JSON Parse error: The document is empty"
    )
    assert server.rest("POST", "/v1/models/x:predict", "{}")[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("/v1/", 400, "Malformed request: GET /v1/"),
        ("/v1/models/line?x=1", 404, "Could not find any versions of model line?x=1"),
        ("/v1/models/a%2Fb", 404, "Could not find any versions of model a/b"),
        ("/v1/models/line/versions/9", 404, "Could not find version 9 of model line"),
        ("/v1/models/line/versions/-1", 400, "Malformed request: GET /v1/models/line/versions/-1"),
        ("/v1/models/line:predict", 400, "Malformed request: GET /v1/models/line:predict"),
        ("/v1/models/x/metadata", 404, "Servable not found for request: Latest(x)"),
    ],
)
def test_refused_gets(server: Any, path: str, status: int, message: str) -> None:
    assert server.rest("GET", path) == (status, JSON, error(message))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_malformed(server: Any, method: str) -> None:
    assert server.rest(method, "/v1/models/line", "{}") == (
        400,
        JSON,
        error(f"Malformed request: {method} /v1/models/line"),
    )


def test_a_version_beyond_64_bits_gets_an_empty_answer(server: Any) -> None:
    assert server.rest("GET", f"/v1/models/line/versions/{2**63}") == (400, JSON, "")


@pytest.mark.parametrize("path", ["/v1/models/line", "/V1/models/line/labels/nosuch"])
def test_status(server: Any, path: str) -> None:
    status, kind, text = server.rest("GET", path)
    assert (status, kind) == (200, JSON)
    entries = [
        f"""  {{
   "version": "{version}",
   "state": "AVAILABLE",
   "status": {{
    "error_code": "OK",
    "error_message": ""
   }}
  }}"""
        for version in (3, 2, 1)
    ]
    assert text == '{\n "model_version_status": [\n' + ",\n".join(entries) + "\n ]\n}\n"


def test_metadata(server: Any) -> None:
    status, _, text = server.rest("GET", "/v1/models/line/labels/stable/metadata")
    assert status == 200
    tensor = {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
    }
    signature = {
        "inputs": {"x": {**tensor, "name": "x:0"}},
        "outputs": {"y": {**tensor, "name": "y:0"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert json.loads(text) == {
        "model_spec": {"name": "line", "version": "1", "signature_name": ""},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("GET", "/health", 404),
        ("POST", "/v2/models/line/infer", 404),
        ("GET", "/../server.py", 404),
        ("GET", '/v1/models/"line"', 400),
        ("GET", "/v1/models/line%zz", 400),
        ("TRACE", "/v1/models/line", 501),
    ],
)
def test_the_http_librarys_own_pages(server: Any, method: str, path: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (status, "text/html")
    assert answer.getheader("Connection") == "close"
    assert answer.read().startswith(f"<HTML><HEAD>\n<TITLE>{status} ".encode())
    connection.close()


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", ZIPPED, 200),
        ("identity, x-gzip", ZIPPED, 200),
        ("deflate", ONE.encode(), 200),
        ("GZIP", ZIPPED, 400),
        ("gzip", ONE.encode(), 400),
        ("gzip", ZIPPED[:-9], 400),
    ],
    ids=["gzip", "in-a-list", "other", "upper-case", "plain", "cut"],
)
def test_compressed_bodies(server: Any, encoding: str, body: Any, status: int) -> None:
    headers = {"Content-Encoding": encoding}
    assert server.rest("POST", "/v1/models/line:predict", body, headers)[0] == status


def test_too_much_in_a_small_gzip_file() -> None:
    assert gunzip(gzip.compress(bytes(100 * 2**20 + 1))) == b""


@pytest.mark.parametrize(
    ("origin", "status"), [("http://a", 200), ("https://a:1", 200), ("null", 400), ("", 400)]
)
def test_preflight(server: Any, origin: str, status: int) -> None:
    answer = server.rest("OPTIONS", "/v1/models/line", headers={"Origin": origin})
    assert answer == (status, "text/html; charset=ISO-8859-1", "")


def test_head_has_no_body_but_the_status_of_a_malformed_request(server: Any) -> None:
    assert server.rest("HEAD", "/v1/models/line") == (400, JSON, "")


def test_a_body_announced_with_expect(server: Any) -> None:
    headers = {"Expect": "100-continue"}
    assert server.rest("POST", "/v1/models/line:predict", ONE, headers)[0] == 200
