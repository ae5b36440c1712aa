from pathlib import Path

import pytest

from deploy.local.errors import HTTP_STATUS, Code, ServingError, as_unicode, from_os, from_quoted


def test_every_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(Code)


def test_text_of_an_error() -> None:
    assert str(ServingError(Code.DATA_LOSS, "gone")) == "DATA_LOSS: gone"


def test_file_system_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "x").read_bytes()
    assert str(from_os(caught.value)) == f"NOT_FOUND: {tmp_path}/x; No such file or directory"


def test_a_quoted_text_keeps_its_bytes_and_has_the_code_that_its_words_tell() -> None:
    error = from_quoted(b"no number: \xe9")
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, "no number: \udce9")
    assert from_quoted(b"/\xe9; No such file or directory").code is Code.NOT_FOUND
    assert from_quoted(b"/\xe9; Permission denied").code is Code.PERMISSION_DENIED
    assert as_unicode(error.message) == "no number: \ufffd"
