// The paper, its tools, and the answer beside it; in their place a form for a model of other things.

import { seen } from "./digit.js";
import { answerForm, openForm, readsDigits } from "./form.js";
import { Trouble, ask, modelNames, newestVersion, signatures, takeKey, useKey, useModel } from "./server.js";

const SIDE = 280; // units of the paper, whatever it measures on the screen
const STEP = 7; // units that an arrow key moves the pen
const DRAWN = 120; // pixels, of a drawing's longer side when the model's pixels are made of it
const MARGIN = 20; // pixels around it, by which bare paper is known
const LARGEST = 512; // pixels, of a picture; larger ones are shrunk
// A 3, shown while the paper is blank.
const EXAMPLE = "M88 82C112 44 192 50 180 104C173 134 142 137 124 137C164 137 202 156 192 198C180 242 112 244 84 204";

const $ = (id) => document.getElementById(id);
const paper = $("paper");

// What was on the paper, the newest last: strokes, each an SVG path, or a picture, a canvas.
const pages = [{ strokes: [] }];
const current = () => pages.at(-1);
const isBlank = () => current().strokes?.length === 0;

function turn(page) {
  nib.isDown = false; // what it drew is not to be drawn on
  pages.push(page);
  changed();
}

function undo() {
  nib.isDown = false;
  if (pages.length > 1) pages.pop();
  changed();
}

function clear() {
  if (!isBlank()) turn({ strokes: [] });
}

// Drawing

const nib = { x: SIDE / 2, y: SIDE / 2, isDown: false };

function moveTo(x, y) {
  nib.x = Math.min(Math.max(x, 0), SIDE);
  nib.y = Math.min(Math.max(y, 0), SIDE);
  if (!nib.isDown) return showPaper();
  current().strokes[current().strokes.length - 1] += `L${nib.x.toFixed(1)} ${nib.y.toFixed(1)}`;
  changed();
}

function putDown() {
  const stroke = `M${nib.x.toFixed(1)} ${nib.y.toFixed(1)}l.01 0`; // a tap leaves a dot
  turn({ strokes: [...(current().strokes ?? []), stroke] });
  nib.isDown = true;
  showPaper();
}

function lift() {
  nib.isDown = false;
  showPaper();
}

let pointer = null; // the one that draws; a palm or a second finger does not

function moveToEvent({ clientX, clientY }) {
  const sheet = paper.getBoundingClientRect();
  moveTo(((clientX - sheet.left) / sheet.width) * SIDE, ((clientY - sheet.top) / sheet.height) * SIDE);
}

paper.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  paper.setPointerCapture(pointer);
  lift();
  moveToEvent(event);
  putDown();
});
paper.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  (events.length ? events : [event]).forEach(moveToEvent);
});
for (const kind of ["pointerup", "pointercancel"]) {
  paper.addEventListener(kind, (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    lift();
  });
}

// Keys

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const held = new Set();
const actions = {
  " ": () => (nib.isDown ? lift() : putDown()),
  Escape: lift,
  Backspace: undo,
  Delete: clear,
};

paper.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in ARROWS) {
    held.add(event.key);
    const [x, y] = [0, 1].map((axis) => [...held].reduce((way, key) => way + ARROWS[key][axis], 0));
    moveTo(nib.x + STEP * x, nib.y + STEP * y);
  } else if (event.key in actions) {
    if (!event.repeat || event.key === "Backspace") actions[event.key]();
  } else return;
  event.preventDefault();
});
paper.addEventListener("keyup", (event) => held.delete(event.key));
paper.addEventListener("blur", () => { held.clear(); lift(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.target === $("key")) return;
  event.preventDefault();
  undo();
});

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);

// Pictures

async function take(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file); // turned as its camera was held
  } catch {
    return tell("The browser cannot read this file as a picture.");
  }
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const sides = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const pen = sheet(...sides);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, ...sides);
  turn({ picture: pen.canvas });
}

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) take(target.files[0]);
  target.value = ""; // so that the same one may be chosen again
});
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) take(clipboardData.files[0]);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    paper.classList.toggle("wanting", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

// What the model gets

function sheet(width, height) {
  const pen = Object.assign(document.createElement("canvas"), { width, height })
    .getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  return pen;
}

// The drawing on bare paper, as large whether it was drawn small or large.
function drawn() {
  const { x, y, width, height } = $("ink").getBBox();
  const lineWidth = parseFloat(getComputedStyle($("ink")).strokeWidth);
  const scale = DRAWN / (Math.max(width, height) + lineWidth);
  const side = DRAWN + 2 * MARGIN;
  const pen = sheet(side, side);
  pen.translate(side / 2, side / 2);
  pen.scale(scale, scale);
  pen.translate(-x - width / 2, -y - height / 2);
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = lineWidth;
  pen.stroke(new Path2D($("ink").getAttribute("d")));
  return pen.canvas;
}

// 784 bytes, white ink on black.
function pixels() {
  const canvas = drawn();
  return seen(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height));
}

function ofPixels(image) {
  const rows = Array.from({ length: 28 }, (_, row) => [...image.slice(28 * row, 28 * row + 28)]);
  return JSON.stringify({ instances: [rows] });
}

// A picture goes as it is: the graph finds the digit in it, for every caller alike.
function ofPicture(canvas) {
  const b64 = canvas.toDataURL("image/png").split(",")[1];
  return JSON.stringify({ signature_name: "encoded", instances: [{ b64 }] });
}

// Asking: one question at a time, after it the newest drawing.

let isNew = false;
let isAsking = false;
let wake = () => {};

function changed() {
  showPaper();
  isNew = true;
  work();
}

async function work() {
  if (isAsking) return;
  asking(true);
  try {
    while (isNew) await step();
  } finally {
    asking(false);
  }
}

function asking(value) {
  isAsking = value;
  $("answer").ariaBusy = value;
}

async function step() {
  await new Promise(requestAnimationFrame); // the screen shows no more than that
  isNew = false;
  try {
    known ??= await meet();
    await (readsDigits(known) ? read() : answerForm());
    tell("");
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    tell(trouble.message, trouble.status === 401);
    const isWorthIt = trouble.seconds < Infinity || trouble.status === 401;
    if (isWorthIt) await pause(trouble.seconds);
    isNew ||= isWorthIt;
  }
}

async function read() {
  const { picture } = current();
  if (isBlank()) {
    await newestVersion();
    return showExample();
  }
  const image = picture ? null : pixels();
  const { answer, facts } = await ask(picture ? ofPicture(picture) : ofPixels(image));
  const [{ probabilities }] = JSON.parse(answer).predictions;
  if (saysNothing(probabilities)) showNothing("There is no digit in this picture.");
  else showAnswer(image, probabilities, facts);
}

function pause(seconds) {
  return new Promise((resolve) => {
    wake = resolve;
    if (seconds < Infinity) setTimeout(resolve, 1000 * seconds);
  });
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value);
  $("key").value = "";
  wake();
});

// Showing

const rows = Array.from({ length: 10 }, (_, digit) => {
  const row = document.createElement("li");
  row.append(...["b", "i", "span"].map((name) => document.createElement(name)));
  row.firstChild.textContent = digit;
  $("bars").append(row);
  return row;
});

function showPaper() {
  const { picture, strokes = [] } = current();
  paper.querySelector("canvas")?.remove();
  if (picture) paper.prepend(picture);
  paper.classList.toggle("used", !isBlank());
  paper.classList.toggle("down", nib.isDown);
  $("ink").setAttribute("d", isBlank() ? EXAMPLE : strokes.join(""));
  $("nib").setAttribute("cx", nib.x);
  $("nib").setAttribute("cy", nib.y);
}

function showAnswer(image, probabilities, facts) {
  const [first, second] = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  $("answer").classList.remove("nothing");
  $("digit").textContent = first;
  say(inWords(probabilities, first, second));
  $("facts").textContent = facts;
  showBars(probabilities, first);
  showSeen(image, "What the model sees");
}

function inWords(probabilities, first, second) {
  if (probabilities[first] > 0.9) return `Almost certainly ${named(first)}.`;
  if (probabilities[first] > 0.5) return `Probably ${named(first)}.`;
  const doubt = isOne(probabilities) ? "Not sure." : "This does not look like one digit.";
  return `${doubt} Perhaps ${named(first)}, or ${named(second)}.`;
}

// Of a blank picture all ten are equal.
const saysNothing = (probabilities) => Math.max(...probabilities) - Math.min(...probabilities) < 1e-6;

// The graph mixes its answer with ten equal shares where a picture does not show one digit.
const isOne = (probabilities) => Math.min(...probabilities) < 0.05;

const named = (digit) => (digit === 8 ? "an 8" : `a ${digit}`);

// What the model would see of the example; it is not asked.
const showExample = () => showNothing("Nothing drawn yet.", example);

function showNothing(words, image = null) {
  $("answer").classList.add("nothing");
  $("digit").textContent = "?";
  say(words);
  $("facts").textContent = "";
  showBars([]);
  showSeen(image, "An example of what the model sees");
}

function showBars(probabilities, first) {
  rows.forEach((row, digit) => {
    const share = probabilities[digit];
    row.classList.toggle("first", digit === first);
    row.style.setProperty("--share", share ?? 0);
    row.lastChild.textContent = share === undefined ? "" : `${(100 * share).toFixed(1)} %`;
  });
}

// Of a picture only the graph knows it.
function showSeen(image, words) {
  $("view").hidden = !image;
  if (!image) return;
  $("which").textContent = words;
  const shown = new ImageData(28, 28);
  image.forEach((ink, i) => shown.data.set([ink, ink, ink, 255], 4 * i));
  $("seen").getContext("2d").putImageData(shown, 0, 0);
}

// Only what is new, or a screen reader would say it at each stroke again.
function say(words) {
  if ($("words").textContent !== words) $("words").textContent = words;
}

function tell(words, needsKey = false) {
  $("trouble").hidden = !words;
  if ($("why").textContent !== words) $("why").textContent = words;
  $("key-form").hidden = !needsKey;
  if (needsKey && document.activeElement === document.body) $("key").focus();
}

// Which model: the paper is for digits, the form for anything else.

let known = null; // the signatures of the model in use, once they are

async function meet() {
  const select = $("model");
  if (!select.options.length) {
    const wanted = new URLSearchParams(location.search).get("model");
    const names = await modelNames();
    select.append(...names.map((name) => new Option(name, name, false, name === wanted)));
    select.parentElement.hidden = names.length === 1;
  }
  useModel(select.value);
  const found = await signatures();
  if (!readsDigits(found)) openForm(select.value, found);
  return found;
}

$("model").addEventListener("change", ({ target }) => {
  location.search = new URLSearchParams({ model: target.value });
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  isNew = true;
  wake();
  work();
});

takeKey();
addEventListener("hashchange", () => {
  takeKey(); // a link with a key, pasted into the tab that asks for one
  wake();
});
showPaper();
const example = pixels();
showExample();
changed(); // finds out whether the server answers and whether it needs a key
if (getComputedStyle(paper).touchAction === "none") $("incomplete").remove(); // its style is here, too
