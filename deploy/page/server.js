// Calls a model over REST, and says in plain words why there is no answer.

const KEY = "key"; // its name in the address's fragment and in the session's storage
const TIMEOUT = 10_000; // ms
const BELIEVED = 5_000; // ms, how long the newest version is taken to be the newest
const PAUSE = 2; // seconds

/** Why there is no answer; `seconds` until asking again is worth it, Infinity: not by itself. */
export class Trouble extends Error {
  constructor(words, seconds = PAUSE, status = 0) {
    super(words);
    this.seconds = seconds;
    this.status = status; // of HTTP; 0 if there was no answer at all
  }
}

let model; // the path of the one that is asked
const newest = { version: null, asked: -Infinity }; // as far as is known, and since when

/** Take the key that came in the address, `#key=…`, and remove it there. */
export function takeKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get(KEY);
  if (key === null) return;
  useKey(key);
  history.replaceState(null, "", location.pathname + location.search);
}

/** From now on ask with this key, until the tab is closed. */
export function useKey(text) {
  sessionStorage.setItem(KEY, text.replace(/[^!-~]/g, "")); // a header holds no others
}

/** The names of the models that are configured. */
export async function modelNames() {
  const { models } = JSON.parse(await call("models.json", {}));
  if (!models.length) throw new Trouble("No model is configured. Trying again …");
  return models;
}

/** From now on ask this model. */
export function useModel(name) {
  model = `v1/models/${encodeURIComponent(name)}`;
  newest.asked = -Infinity;
}

/** Name of each signature of the model → its inputs and outputs, as the server tells them. */
export async function signatures() {
  return JSON.parse(await call(`${model}/metadata`, {})).metadata.signature_def.signature_def;
}

/** The newest version that answers, a string of digits. */
export async function newestVersion() {
  const { model_version_status: states } = JSON.parse(await call(model, {}));
  const available = states.find(({ state }) => state === "AVAILABLE"); // the newest come first
  if (!available) throw new Trouble("No version of the model is loaded. Trying again …");
  Object.assign(newest, { version: available.version, asked: performance.now() });
  return newest.version;
}

/** What the model says to the JSON of a request: JSON again, and which version took how long. */
export async function ask(question) {
  const isFresh = performance.now() - newest.asked < BELIEVED;
  const version = isFresh ? newest.version : await newestVersion();
  try {
    return await askVersion(version, question);
  } catch (trouble) {
    if (!isFresh || trouble.status !== 404) throw trouble;
    return askVersion(await newestVersion(), question); // another has taken its place
  }
}

// By its number, so that the version shown is the one that answered.
async function askVersion(version, body) {
  const start = performance.now();
  const answer = await call(`${model}/versions/${version}:predict`, { method: "POST", body });
  const milliseconds = performance.now() - start;
  return { answer, facts: `version ${version} · ${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms` };
}

async function call(path, request) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { "x-api-key": key } : {};
  const signal = AbortSignal.timeout(TIMEOUT);
  let response, body;
  try {
    response = await fetch(path, { ...request, headers, signal, cache: "no-store" });
    body = await response.text();
  } catch {
    throw new Trouble("The server cannot be reached. Trying again …");
  }
  if (response.ok) return body;
  throw new Trouble(...explained(response, body, key), response.status);
}

function explained({ status, headers }, body, key) {
  const seconds = Number(headers.get("Retry-After")) || PAUSE;
  if (status === 400) return [`The server refused the request: ${reason(body)}`, Infinity];
  if (status === 401 && !key) return ["This server asks for a key.", Infinity];
  if (status === 401) return ["This key is not known here.", Infinity];
  if (status === 404) return ["The server has not loaded this model yet. Trying again …", seconds];
  if (status === 429) return [`Too many requests. Trying again in ${seconds} s.`, seconds];
  if (status >= 500) return ["The server is not ready. Trying again …", seconds];
  return [`The server refused the request (${status}).`, Infinity];
}

function reason(body) {
  try {
    return JSON.parse(body).error;
  } catch {
    return body;
  }
}
