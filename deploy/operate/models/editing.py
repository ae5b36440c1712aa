"""The text of a `models.config`, changed in one model: comments and all else stay.

A text that is written as few write it is written anew, and says the same without comments. All
functions raise `text_format.ParseError` if the text is no ModelServerConfig.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping

from google.protobuf import text_format

from deploy.server_messages import ModelServerConfig

_TOKEN = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|#.*|[{}<>]|\w+""")
_LIST = "model_config_list"


def added(text: str, name: str, base_path: str) -> str:
    """The text with one more model, the last."""
    quoted = (json.dumps(value, ensure_ascii=False) for value in (name, base_path))
    lines = "  config {{\n    name: {}\n    base_path: {}\n".format(*quoted)
    entry = f'{lines}    model_platform: "tensorflow"\n  }}\n'
    config = text_format.Parse(text, ModelServerConfig())
    config.model_config_list.MergeFrom(
        text_format.Parse(f"{_LIST} {{ {entry} }}", ModelServerConfig()).model_config_list
    )
    for _, end in _messages(text, _LIST):
        text = _with(text, end, entry)
    return _if_it_says(config, text)


def removed(text: str, name: str) -> str:
    """The text without the model of that name."""
    config = text_format.Parse(text, ModelServerConfig())
    listed = config.model_config_list.config
    (number,) = (i for i, model in enumerate(listed) if model.name == name)
    del listed[number]
    for start, end in _entry(text, number):
        text = _without(text, start, end)
    return _if_it_says(config, text)


def labelled(text: str, name: str, labels: Mapping[str, int]) -> str:
    """The text in which that model has these labels and serves their versions and no others.

    Without labels it has no policy, either: the server serves the newest.
    """
    config = text_format.Parse(text, ModelServerConfig())
    listed = config.model_config_list.config
    (number,) = (i for i, model in enumerate(listed) if model.name == name)
    versions = " ".join(f"versions: {version}" for version in sorted({*labels.values()}))
    lines = [f"model_version_policy {{ specific {{ {versions} }} }}"] if labels else []
    lines += [
        f"version_labels {{ key: {json.dumps(label, ensure_ascii=False)} value: {version} }}"
        for label, version in labels.items()
    ]
    for field in ("model_version_policy", "version_labels"):
        listed[number].ClearField(field)
    listed[number].MergeFrom(
        text_format.Parse(
            f"{_LIST} {{ config {{ {' '.join(lines)} }} }}", ModelServerConfig()
        ).model_config_list.config[0]
    )
    for start, end in _entry(text, number):
        within = [
            message
            for field in ("model_version_policy", "version_labels")
            for message in _messages(text, _LIST, "config", field)
            if start < message[0] < end
        ]
        for message in sorted(within, reverse=True):
            text = _without(text, *message)
    for _, end in _entry(text, number):
        text = _with(text, end, "".join(f"    {line}\n" for line in lines), closed="  ")
    return _if_it_says(config, text)


def _entry(text: str, number: int) -> list[tuple[int, int]]:
    """Where the model of that number stands; nothing where the text is not written as usual."""
    return [*_messages(text, _LIST, "config")][number : number + 1]


def _with(text: str, end: int, lines: str, *, closed: str = "") -> str:
    """With more lines before the brace that ends at `end`, and that is indented by `closed`."""
    before = text[: end - 1].rstrip(" \t")
    return before + ("" if before.endswith("\n") else "\n") + lines + closed + text[end - 1 :]


def _without(text: str, start: int, end: int) -> str:
    """Without what stands there, and without the line that would be left empty."""
    return text[:start].rstrip(" \t") + re.sub(r"^[ \t]*\n", "", text[end:])


def _messages(text: str, *path: str) -> Iterator[tuple[int, int]]:
    """Where the messages of a field, the last of a path, start and end in a text that is well."""
    opened: list[tuple[str, int]] = []
    word = ("", 0)
    for token in _TOKEN.finditer(text):
        if token[0] in "{<":
            opened.append(word)
        elif token[0] in "}>":
            if path == tuple(field for field, _ in opened):
                yield opened[-1][1], token.end()
            opened.pop()
        elif token[0][0] not in "#\"'":
            word = token[0], token.start()


def _if_it_says(config: ModelServerConfig, text: str) -> str:
    with contextlib.suppress(text_format.ParseError):
        if text_format.Parse(text, ModelServerConfig()) == config:
            return text
    anew: str = text_format.MessageToString(config)
    return anew
