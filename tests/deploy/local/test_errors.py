from pathlib import Path

import pytest

from deploy.local.errors import HTTP_STATUS, Code, ServingError, from_os


def test_every_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(Code)


def test_text_of_an_error() -> None:
    assert str(ServingError(Code.DATA_LOSS, "gone")) == "DATA_LOSS: gone"


def test_file_system_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "x").read_bytes()
    assert str(from_os(caught.value)) == f"NOT_FOUND: {tmp_path}/x; No such file or directory"
