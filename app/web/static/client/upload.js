/** Sends a track, and says how much of it has arrived. XMLHttpRequest, because fetch does not tell. */
import { keyHeaders, obtainKey } from "./keys.js";
import { Problem, problemOf, unreachable } from "./problem.js";
import { backoffS, sleep, Turns } from "./turns.js";

/** @typedef {import("#api").components["schemas"]["Job"]} Job */
/**
 * @typedef {object} Upload
 * @property {File} file
 * @property {Record<string, string>} fields options of the job
 * @property {AbortSignal} signal
 * @property {(ratio: number) => void} onProgress
 * @property {(problem: Problem) => void} onRetry
 */

/** A browser keeps six connections to a service: some are left for reading. */
const AT_A_TIME = 2;
const MAX_FAILURES = 8;
/** The name that the form gives to a file: its own stays on this machine. */
const NEUTRAL_NAME = "track";
const SETTLED = new Set([200, 202]);

const turns = new Turns(AT_A_TIME);

/**
 * The job that an upload made. Tries again while that may help: with one key, so that no second job is made.
 * @param {Upload} upload
 * @returns {Promise<Job>}
 */
export function submit(upload) {
  return turns.run(() => sendUntilAccepted(upload, idempotencyKey()));
}

/** Of random bytes: `randomUUID` is not there where a page is not served over TLS. */
function idempotencyKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Upload} upload
 * @param {string} key
 */
async function sendUntilAccepted(upload, key) {
  for (let failures = 1; ; failures += 1) {
    try {
      return await send(upload, key);
    } catch (error) {
      if (!(error instanceof Problem) || !error.retryable || failures >= MAX_FAILURES) throw error;
      upload.onRetry(error);
      await sleep(error.retryAfterS ?? backoffS(failures), upload.signal);
    }
  }
}

/**
 * @param {Upload} upload
 * @param {string} key
 * @returns {Promise<Job>}
 */
async function send(upload, key) {
  const apiKey = keyHeaders();
  const request = await post(upload, { ...apiKey, "Idempotency-Key": key });
  if (SETTLED.has(request.status)) return JSON.parse(request.responseText);
  if (request.status === 401 && (await obtainKey(apiKey))) return send(upload, key);
  throw problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After"));
}

/**
 * @param {Upload} upload
 * @param {Record<string, string>} headers
 * @returns {Promise<XMLHttpRequest>}
 */
function post({ file, fields, signal, onProgress }, headers) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open("POST", "score");
    for (const [name, value] of Object.entries({ Accept: "application/json", ...headers })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onload = () => resolve(request);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form(file, fields));
  });
}

/**
 * @param {File} file
 * @param {Record<string, string>} fields
 */
function form(file, fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  data.append("file", file, NEUTRAL_NAME);
  return data;
}
