"""The text of a `models.config`, changed by one model: comments, labels and all else stay."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator

from google.protobuf import text_format

from deploy.server_messages import ModelServerConfig

_TOKEN = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|#.*|[{}<>]|\w+""")
_ENTRY = """  config {{
    name: {}
    base_path: {}
    model_platform: "tensorflow"
  }}
"""


def added(text: str, name: str, base_path: str) -> str:
    """The text with one more model, the last.

    Raises:
        text_format.ParseError: the text is no ModelServerConfig.
    """
    entry = _ENTRY.format(*(json.dumps(value, ensure_ascii=False) for value in (name, base_path)))
    config = text_format.Parse(text, ModelServerConfig())
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    ends = [end for field, _, end in _messages(text) if field == ("model_config_list",)]
    if not ends:
        return _if_it_says(config, "")
    before = text[: ends[0] - 1].rstrip(" \t")
    line = "" if before.endswith("\n") else "\n"
    return _if_it_says(config, f"{before}{line}{entry}{text[ends[0] - 1 :]}")


def removed(text: str, name: str) -> str:
    """The text without the models of that name.

    Raises:
        text_format.ParseError: the text is no ModelServerConfig.
    """
    config = text_format.Parse(text, ModelServerConfig())
    listed = config.model_config_list.config
    places = [place for place in _messages(text) if place[0] == ("model_config_list", "config")]
    edited = text
    for number in reversed(range(len(listed))):
        if listed[number].name == name:
            if len(places) > number:
                _, start, end = places[number]
                edited = _cut(edited, start, end)
            del listed[number]
    return _if_it_says(config, edited)


def _messages(text: str) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Path of fields, start and end of each message in a text that can be parsed."""
    opened: list[tuple[str, int]] = []
    word = ("", 0)
    for token in _TOKEN.finditer(text):
        if token[0] in "{<":
            opened.append(word)
        elif token[0] in "}>":
            path = tuple(field for field, _ in opened)
            yield path, opened.pop()[1], token.end()
        elif token[0][0] not in "#\"'":
            word = token[0], token.start()


def _cut(text: str, start: int, end: int) -> str:
    """Without what stands there, and without the line that would be left blank."""
    before, after = text[:start], text[end:]
    if re.search(r"(^|\n)[ \t]*$", before) and (blank := re.match(r"[ \t]*\n", after)):
        return before.rstrip(" \t") + after[blank.end() :]
    return before + after


def _if_it_says(config: ModelServerConfig, text: str) -> str:
    """The edited text; if it is written as few write it, all of it anew, without comments."""
    with contextlib.suppress(text_format.ParseError):
        if text_format.Parse(text, ModelServerConfig()) == config:
            return text
    anew: str = text_format.MessageToString(config)
    return anew
