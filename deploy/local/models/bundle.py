"""A version's folder to its graph: saved_model.pb, or saved_model.pbtxt where that lacks."""

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from deploy.local import varint
from deploy.local.errors import Code, ServingError, from_os

# Protobuf reads so far ahead. A fault in what it reads last comes together with the file's end.
_AHEAD = 16
_SIZES = {1: 8, 5: 4}  # of fields of a fixed size, by wire type


def read_meta_graph(path: Path, tags: Sequence[str]) -> meta_graph_pb2.MetaGraphDef:
    """The graph with exactly these tags.

    Raises:
        ServingError: the code and text that the real server reports for the same folder.
    """
    for meta_graph in _read(path).meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise ServingError(
        Code.NOT_FOUND,
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect"
        " available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
    )


def _read(path: Path) -> saved_model_pb2.SavedModel:
    binary, text = path / "saved_model.pb", path / "saved_model.pbtxt"
    model = saved_model_pb2.SavedModel()
    try:
        if binary.exists() or not text.exists():
            model.ParseFromString(data := binary.read_bytes())
        else:
            text_format.Parse(text.read_bytes(), model)
    except FileNotFoundError:
        raise ServingError(
            Code.NOT_FOUND,
            "Specified file path does not appear to contain a SavedModel bundle (should have a"
            f" file called `saved_model.pb`)\nSpecified file path: {path}",
        ) from None
    except OSError as error:
        raise from_os(error) from None
    except DecodeError:
        if _fault(data) + _AHEAD >= len(data):
            raise ServingError(Code.OUT_OF_RANGE, "Read less bytes than requested") from None
        raise ServingError(Code.DATA_LOSS, f"Can't parse {binary} as binary proto") from None
    except (text_format.ParseError, UnicodeDecodeError):
        raise ServingError(Code.DATA_LOSS, f"Can't parse {text} as text proto") from None
    return model


def _fault(data: bytes) -> int:
    """Where a message that does not parse is first wrong; 0 if that is inside of a field."""
    position = 0
    try:
        while position < len(data):
            tag, end = varint.read(data, position)
            if tag & 7 == 0:
                _, end = varint.read(data, end)
            elif tag & 7 == 2:
                size, end = varint.read(data, end)
                end += size
            else:
                end += _SIZES[tag & 7]
            if tag < 8:
                return position
            if end > len(data):
                return len(data)
            position = end
    except KeyError:
        return position
    except IndexError:
        return len(data)
    return 0
