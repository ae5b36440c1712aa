from __future__ import annotations

import pytest
from google.protobuf import text_format

from deploy.operate.models import editing
from deploy.operate.stack import served
from deploy.server_messages import ModelServerConfig

SHIPPED = (served.SOURCE / served.MODELS).read_text()
ENTRY = """  config {
    name: "price"
    base_path: "/models/price"
    model_platform: "tensorflow"
  }
"""
EDITED = """# Ours. config { name: "no" }
model_config_list {
  # { the first
  config {
    name: "a" base_path: '/models/}a' model_platform: "tensorflow"  # as trained {
    version_labels { key: "stable" value: 3 }
    model_version_policy { specific { versions: 3 versions: 4 } }
  }

  config: < name: 'b' base_path: "/models/b" model_platform: "tensorflow" >
}
# The end.
"""
# As few write it.
LIST = """model_config_list: {
  config: [{ name: "a" }, { name: "b" version_labels { key: "x" value: 1 } }] }"""


def _parsed(text: str) -> ModelServerConfig:
    return text_format.Parse(text, ModelServerConfig())


def test_a_model_is_added_where_a_person_would_write_it() -> None:
    assert editing.added(SHIPPED, "price", "/models/price") == SHIPPED.replace(
        "  }\n}", f"  }}\n{ENTRY}}}"
    )
    assert editing.added(EDITED, "price", "/models/price") == EDITED.replace(
        "\n}\n#", f"\n{ENTRY}}}\n#"
    )


@pytest.mark.parametrize("text", [SHIPPED, EDITED])
def test_what_is_added_is_removed_without_a_trace(text: str) -> None:
    assert editing.removed(editing.added(text, "price", "/models/price"), "price") == text


def test_a_model_is_removed_and_nothing_else() -> None:
    assert editing.removed(EDITED, "a") == EDITED.replace(
        EDITED[EDITED.index("  config {") : EDITED.index("\n  config: <")], ""
    )


@pytest.mark.parametrize("text", ["", "model_config_list {}", "# none\n", SHIPPED, EDITED, LIST])
@pytest.mark.parametrize("path", ["/models/price", 's3://a "quoted" bucket\\ü'])
def test_however_it_is_written_it_says_the_same_with_one_more(text: str, path: str) -> None:
    expected = _parsed(text)
    expected.model_config_list.config.add(name="price", base_path=path, model_platform="tensorflow")
    added = editing.added(text, "price", path)
    assert _parsed(added) == expected
    before = _parsed(text)
    before.model_config_list.SetInParent()
    assert _parsed(editing.removed(added, "price")) == before


def test_a_list_in_brackets_loses_one_and_keeps_labels() -> None:
    (left,) = _parsed(editing.removed(LIST, "a")).model_config_list.config
    assert (left.name, dict(left.version_labels)) == ("b", {"x": 1})


def test_on_one_line() -> None:
    text = 'model_config_list { config { name: "a" } config { name: "b" } }'
    (left,) = _parsed(editing.removed(text, "b")).model_config_list.config
    assert left.name == "a"
    assert _parsed(editing.removed(editing.added(text, "c", "/c"), "c")) == _parsed(text)


def test_what_is_no_configuration() -> None:
    with pytest.raises(text_format.ParseError):
        editing.added("model_config_list {", "a", "/a")


@pytest.mark.parametrize(
    "text",
    [
        SHIPPED,
        EDITED,
        EDITED.replace("{ specific { versions: 3", "{\n      specific { versions: 3").replace(
            "4 } }", "4 }\n    }  # ours"
        ),
    ],
)
def test_versions_and_labels_are_written_in_a_line_each(text: str) -> None:
    name = _parsed(text).model_config_list.config[0].name
    lines = (
        "    model_version_policy { specific { versions: 1 versions: 2 } }\n"
        '    version_labels { key: "stable" value: 2 }\n'
        '    version_labels { key: "a \\"b\\"" value: 1 }\n'
    )
    labelled = editing.serving(text, name, {2, 1}, {"stable": 2, 'a "b"': 1})
    assert lines in labelled
    assert labelled.count("version_labels") == 2
    plain = editing.serving(labelled, name, [], {})
    assert labelled.replace(lines, "") == plain
    assert plain == text or text != SHIPPED
    first, second = labelled.splitlines()[0], text.splitlines()[0]
    assert first == second  # comments stay


def test_versions_of_a_model_that_is_written_as_few_write_it() -> None:
    labelled = _parsed(editing.serving(LIST, "a", [7], {"stable": 7})).model_config_list
    assert [*labelled.config[0].model_version_policy.specific.versions] == [7]
    assert {**labelled.config[1].version_labels} == {"x": 1}
