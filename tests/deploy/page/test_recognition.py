"""Whether the page's answers are as good as the model."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from export.digits.graph.preprocessing import normalise_files
from tests.deploy.page.conftest import Page
from tests.deploy.page.door import Door
from tests.deploy.page.strokes import strokes_of
from tests.export.digits.graph.redrawn import REDRAWINGS, redraw

# Pointer events as the browser would send them, at once: a hundred digits are too many for a hand.
_PEN = """
const paper = document.getElementById("paper");
const { left, top, width } = paper.getBoundingClientRect();
const send = (kind, [x, y]) => paper.dispatchEvent(new PointerEvent(kind, {
  pointerId: 1, button: 0, clientX: left + x * width, clientY: top + y * width, bubbles: true }));
document.getElementById("clear").click();
for (const stroke of arguments[0]) {
  send("pointerdown", stroke[0]);
  stroke.forEach((point) => send("pointermove", point));
  send("pointerup", stroke.at(-1));
}
"""
_DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (byte) => byte.charCodeAt(0));
const dataTransfer = new DataTransfer();
dataTransfer.items.add(new File([bytes], "digit"));
document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
"""


def test_drawn_digits_are_read_as_well_as_their_pictures(
    page: Page, golden: dict[str, NDArray[Any]]
) -> None:
    labels, drawn = golden["labels"], []
    for image in golden["images"]:
        page.run(_PEN, strokes_of(image))
        drawn.append(int(page.answer()))
    direct = golden["probabilities"].argmax(axis=1)
    lost = int((direct == labels).sum() - (np.array(drawn) == labels).sum())
    # A line through a blot of 8×8 pixels tells less than the blot.
    assert lost <= 2, (lost, drawn)


@pytest.mark.parametrize("name", REDRAWINGS)
def test_a_picture_becomes_what_the_graph_itself_makes_of_it(
    page: Page, door: Door, golden: dict[str, NDArray[Any]], name: str
) -> None:
    (file,) = redraw(golden["images"][42:43], REDRAWINGS[name])
    (want,) = normalise_files(tf.constant([file]))[0].numpy()
    page.run(_DROP, base64.b64encode(file).decode())
    page.until(door.images, "the picture to be asked about")
    difference = np.abs(np.array(door.images()[-1]) - want.astype(int))
    how = REDRAWINGS[name]
    if how.jpeg is None and max(how.page) <= 512:
        assert difference.max() <= 1
    else:  # the browser has another JPEG decoder, and shrinks large pictures its own way
        assert difference.mean() <= 3
