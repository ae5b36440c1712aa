"use strict";

// The graph itself finds, scales and centres the digit, so the page sends its paper as it is.
const paper = document.getElementById("paper");
const answer = document.getElementById("answer");
const pen = paper.getContext("2d");
const meters = Array.from({ length: 10 }, (_, digit) => {
  const meter = document.createElement("meter");
  const row = document.createElement("li");
  row.append(String(digit), meter);
  document.getElementById("bars").append(row);
  return meter;
});

function clear() {
  pen.fillStyle = "white";
  pen.fillRect(0, 0, paper.width, paper.height);
  meters.forEach((meter) => { meter.value = 0; });
}

async function ask() {
  const picture = paper.toDataURL("image/png").split(",")[1];
  const response = await fetch("/v1/models/mnist:predict", {
    method: "POST",
    body: JSON.stringify({ signature_name: "encoded", inputs: [{ b64: picture }] }),
  });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  body.outputs.probabilities[0].forEach((share, digit) => { meters[digit].value = share; });
  answer.textContent = `It is a ${body.outputs.digits[0]}.`;
}

// One question at a time, and one more after it if something was drawn meanwhile.
let asking = false;
let changed = false;
async function update() {
  changed = true;
  if (asking) return;
  asking = true;
  while (changed) {
    changed = false;
    try { await ask(); } catch (error) { answer.textContent = `No answer: ${error.message}`; }
  }
  asking = false;
}

paper.addEventListener("pointerdown", (event) => {
  paper.setPointerCapture(event.pointerId);
  pen.beginPath();
  pen.moveTo(event.offsetX, event.offsetY);
});
paper.addEventListener("pointermove", (event) => {
  if (!paper.hasPointerCapture(event.pointerId)) return;
  pen.lineTo(event.offsetX, event.offsetY);
  pen.stroke();
  update();
});
document.getElementById("clear").addEventListener("click", clear);

clear();
pen.lineWidth = 18;
pen.lineCap = pen.lineJoin = "round";
