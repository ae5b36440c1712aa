// A form for any model, made of what its metadata says, and its answer as a table.

import { Trouble, ask, newestVersion } from "./server.js";

const MOST = 10_000; // values that a field holds to begin with
const SHOWN = 100; // rows of an answer
const EMPTY = { string: "", bool: false };

const $ = (id) => document.getElementById(id);

// The sizes of a tensor's dimensions, -1 for a free one; null if not even their number is known.
const sizes = ({ tensor_shape: shape }) =>
  shape.unknown_rank ? null : (shape.dim ?? []).map(({ size }) => Number(size));

/** Whether a model is asked for digits as this project's is: pixels in, probabilities out. */
export function readsDigits({ serving_default: { inputs = {}, outputs = {} } = {} }) {
  const { images } = inputs;
  const { probabilities } = outputs;
  if (!images || !probabilities || Object.keys(inputs).length > 1) return false;
  const shapes = [images, probabilities].map((tensor) => String(sizes(tensor)));
  return images.dtype === "DT_UINT8" && shapes[0] === "-1,28,28" && shapes[1] === "-1,10";
}

let known = {}; // the model's signatures
let fields = []; // of the one chosen: names, and functions for their JSON
let sent = false; // whether it is to be asked

/** Show the form in the place of the paper. */
export function openForm(model, signatures) {
  known = signatures;
  document.title = $("name").textContent = model;
  document.body.classList.add("any");
  // The others take serialized examples.
  const names = Object.keys(known).filter((name) => known[name].method_name === "tensorflow/serving/predict");
  names.sort((a, b) => (b === "serving_default") - (a === "serving_default") || a.localeCompare(b));
  $("signature").replaceChildren(...names.map((name) => new Option(name)));
  $("signature").parentElement.hidden = names.length < 2;
  $("without").hidden = names.length > 0;
  $("send").hidden = !names.length;
  showFields();
}

function showFields() {
  const { inputs = {} } = known[$("signature").value] ?? {};
  fields = Object.keys(inputs).sort().map((name) => ({ name, ...field(name, inputs[name]) }));
  $("fields").replaceChildren(...fields.map(({ label }) => label));
  sent = false;
  showAnswer([], "");
}
$("signature").addEventListener("change", showFields);
$("form").addEventListener("submit", () => (sent = true));

/** Ask the model what stands in the form, once it was sent. */
export async function answerForm() {
  if (!sent) return void (await newestVersion());
  const signature = $("signature").value;
  const inputs = fields.map(({ name, json }) => `${JSON.stringify(name)}:${json()}`);
  const { answer, facts } = await ask(`{"signature_name":${JSON.stringify(signature)},"inputs":{${inputs}}}`);
  showAnswer(rows(answer, known[signature].outputs), facts);
}

function showAnswer(rows, facts) {
  $("rows").replaceChildren();
  for (const texts of rows) {
    const row = $("rows").insertRow();
    for (const text of texts) row.insertCell().textContent = text;
  }
  $("said").textContent = facts;
}

// A field for one row of an input: what to show, and a function for its JSON in a request.
function field(name, tensor) {
  const shape = sizes(tensor);
  const kind = tensor.dtype.replace("DT_", "").toLowerCase();
  const isFree = shape?.[0] === -1;
  const row = isFree ? shape.slice(1) : shape;
  const isOne = row?.every((size) => size === 1);
  const input = document.createElement(isOne ? "input" : "textarea");
  Object.assign(input, { name, required: kind !== "string", autocomplete: "off", spellcheck: false });
  if (!isOne && row && row.reduce((all, size) => all * Math.abs(size), 1) <= MOST) {
    input.value = JSON.stringify(filled(row, EMPTY[kind] ?? 0));
  }
  const label = document.createElement("label");
  const type = document.createElement("small");
  const told = row ? row.map((size) => (size < 0 ? "?" : size)).join(" × ") : "any shape";
  type.textContent = isOne ? ` ${kind}` : ` ${kind}, ${told}`;
  label.append(name, type, input);
  const around = (isOne ? row.length : 0) + (isFree ? 1 : 0);
  const json = () => {
    const text = isOne && kind === "string" ? JSON.stringify(input.value) : input.value.trim();
    try {
      JSON.parse(text);
    } catch {
      throw new Trouble(`${name} is not ${isOne ? `a valid ${kind}` : `valid JSON of ${kind}`}: ${text.slice(0, 40)}`, Infinity);
    }
    return "[".repeat(around) + text + "]".repeat(around);
  };
  return { label, json };
}

const filled = ([size, ...rest], value) =>
  size === undefined ? value : Array.from({ length: Math.abs(size) }, () => filled(rest, value));

// The rows of the table for an answer in columns: names, and values as text.
function rows(answer, outputs) {
  const names = Object.keys(outputs).sort();
  const { outputs: found } = exactly(answer);
  const values = names.length === 1 ? { [names[0]]: found } : found;
  return names.flatMap((name) => {
    const value = Array.isArray(values[name]) && values[name].length === 1 ? values[name][0] : values[name];
    if (!Array.isArray(value)) return [[name, shown(value)]];
    const listed = value.slice(0, SHOWN).map((each, i) => [`${name}[${i}]`, shown(each)]);
    return value.length > SHOWN ? [...listed, [name, `${value.length - SHOWN} more`]] : listed;
  });
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

// With NaN and infinities, which the server writes and JSON has not, and, where the browser can,
// with integers that are too long for JavaScript.
function exactly(text) {
  const named = text.replace(/("(?:\\.|[^"\\])*")|-?\b(?:NaN|Infinity)\b/g, (it, string) => string ?? `"${it}"`);
  return JSON.parse(named, (_, value, context) =>
    typeof value === "number" && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value);
}
