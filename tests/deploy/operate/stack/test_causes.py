from __future__ import annotations

import pytest

from deploy.operate.stack import causes


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            "Failed to start server. Error: FAILED_PRECONDITION: Request to assign label to "
            "version 4 of model mnist, which is not currently available for inference",
            "Request to assign label to version 4 of model mnist, which is not currently available "
            "for inference; fix models.config",
        ),
        (
            "E0000 Invalid protobuf file: '/config/models.config'\nmore\n",
            "Invalid protobuf file: '/config/models.config'; fix models.config",
        ),
        (
            "Failed to start server. Error: INVALID_ARGUMENT: something new",
            "Failed to start server. Error: INVALID_ARGUMENT: something new; fix the server's "
            "configuration",
        ),
        (
            "2026/11/30 [emerg] 7#7: unexpected end of file in /gateway/nginx.conf:3",
            "7#7: unexpected end of file in /gateway/nginx.conf:3; fix that file",
        ),
        (
            "tensorflow_model_server: error while loading shared libraries: libcuda.so.1: cannot "
            "open shared object file: No such file or directory",
            "libcuda.so.1: cannot open shared object file: No such file or directory; this image "
            "needs a GPU; `python -m deploy up --cpu`",
        ),
        ("one\nlast words\n\n", "last words (exit status 3); see `docker compose logs`"),
    ],
)
def test_the_line_that_says_why_and_what_to_do(log: str, told: str) -> None:
    assert causes.why(log, {"ExitCode": 3}).startswith(told)


def test_memory() -> None:
    assert "SERVING_MEMORY" in causes.why("", {"OOMKilled": True, "ExitCode": 137})
    assert causes.why("x", {"ExitCode": 137}) == "it was killed; its last log line: x"
    assert causes.why("", {}) == "it wrote nothing; see `docker compose logs`"
