"""Edit one model in the text of a `models.config`; comments and all else stay.

A text with another layout than the bundle's file is rewritten: same meaning, without comments.
All functions raise `text_format.ParseError` if the text is not a ModelServerConfig.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping

from google.protobuf import text_format

from deploy.server_messages import ModelServerConfig

# From its first line to the closing brace of the same indentation.
_MODEL = re.compile(r"^([ \t]*)config\b[^}>\n]*\n(?:.*\n)*?\1\}.*\n", re.MULTILINE)
# Its policy and labels; in one line, or as above.
_VERSIONS = re.compile(
    r"^([ \t]*)(?:model_version_policy|version_labels)\b(?:.*\}|[^}>\n]*\n(?:.*\n)*?\1\}).*\n",
    re.MULTILINE,
)


def added(text: str, name: str, base_path: str) -> str:
    """The text with one more model, the last."""
    config = text_format.Parse(text, ModelServerConfig())
    model = config.model_config_list.config.add(
        name=name, base_path=base_path, model_platform="tensorflow"
    )
    lines = text_format.MessageToString(model, as_utf8=True, indent=4)
    before, brace, after = text.rpartition("}")
    return _one_that_says(config, [f"{before}  config {{\n{lines}  }}\n{brace}{after}"])


def removed(text: str, name: str) -> str:
    """The text without the model of that name."""
    config = text_format.Parse(text, ModelServerConfig())
    listed = config.model_config_list.config
    listed.remove(next(model for model in listed if model.name == name))
    models = _MODEL.finditer(text)
    return _one_that_says(config, (text[: m.start()] + text[m.end() :] for m in models))


def serving(text: str, name: str, versions: Iterable[int], labels: Mapping[str, int]) -> str:
    """The text in which that model serves these versions, or the newest, with these labels."""
    config = text_format.Parse(text, ModelServerConfig())
    model = next(model for model in config.model_config_list.config if model.name == name)
    model.ClearField("model_version_policy")
    model.ClearField("version_labels")
    model.version_labels.update(labels)
    lines = ""
    if numbers := sorted(versions):
        model.model_version_policy.specific.versions.extend(numbers)
        listed = " ".join(f"versions: {number}" for number in numbers)
        lines = f"    model_version_policy {{ specific {{ {listed} }} }}\n"
    for label, number in labels.items():
        key = json.dumps(label, ensure_ascii=False)
        lines += f"    version_labels {{ key: {key} value: {number} }}\n"
    texts = []
    for found in _MODEL.finditer(text):
        *kept, closing = _VERSIONS.sub("", found[0]).splitlines(keepends=True)
        entry = "".join([*kept, lines, closing])
        texts.append(text[: found.start()] + entry + text[found.end() :])
    return _one_that_says(config, texts)


def _one_that_says(config: ModelServerConfig, texts: Iterable[str]) -> str:
    for text in texts:
        with contextlib.suppress(text_format.ParseError):
            if text_format.Parse(text, ModelServerConfig()) == config:
                return text
    rewritten: str = text_format.MessageToString(config)
    return rewritten
