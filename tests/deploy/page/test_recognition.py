"""Whether the page's answers are as good as the model."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from export.digits.graph.preprocessing import normalise_files
from tests.deploy.page.conftest import Page
from tests.deploy.page.proxy import Proxy
from tests.deploy.page.strokes import strokes_of
from tests.export.digits.graph.redrawn import REDRAWINGS, Redrawing, redraw
from tfserving_client import DigitClient

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


# Black on white, as the page draws.
_DRAWING = Redrawing(page=(160, 160), ink=(0, 0, 0), paper=(255, 255, 255))
_SEEN = """
const [file, done] = arguments;
(async () => {
  const { seen } = await import("./digit.js");
  const bytes = Uint8Array.from(atob(file), (byte) => byte.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]));
  const pen = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  done([...seen(pen.getImageData(0, 0, bitmap.width, bitmap.height))]);
})();
"""


def test_a_drawing_becomes_what_the_graph_makes_of_its_picture(
    page: Page, golden: dict[str, NDArray[Any]]
) -> None:
    files = list(redraw(golden["images"][:20], _DRAWING))
    for file, want in zip(files, normalise_files(tf.constant(files))[0].numpy(), strict=True):
        seen = page.browser.execute_async_script(_SEEN, base64.b64encode(file).decode())
        assert np.abs(np.reshape(seen, (28, 28)) - want.astype(int)).max() <= 1


@pytest.mark.parametrize("name", REDRAWINGS)
def test_a_picture_is_read_by_the_graph(
    page: Page, proxy: Proxy, golden: dict[str, NDArray[Any]], name: str
) -> None:
    (file,) = redraw(golden["images"][42:43], REDRAWINGS[name])
    page.run(_DROP, base64.b64encode(file).decode())
    page.until(proxy.images, "the picture to be asked about")
    sent = Image.open(io.BytesIO(base64.b64decode(proxy.images()[-1]["b64"])))
    picture = Image.open(io.BytesIO(file)).convert("RGBA")
    assert max(sent.size) == min(max(picture.size), 512)
    how = REDRAWINGS[name]
    if how.jpeg is None and max(how.page) <= 512:  # or shrunk, by the browser's decoder
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(picture)
        np.testing.assert_array_equal(np.asarray(sent.convert("RGB")), paper.convert("RGB"))
    page.until(lambda: page.text("digit") != "?", "an answer")
    with DigitClient(f"http://{proxy.inside}") as digits:
        direct = digits.classify([file])
    assert page.answer() == str(direct[0].digit)
