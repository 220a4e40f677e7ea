/** Requests to the service. Paths are relative to the document, so that a proxy may serve it under any path. */
import { keyHeaders, obtainKey } from "./keys.js";
import { problemOf, unreachable } from "./problem.js";

/** @typedef {import("#api").components["schemas"]["Job"]} Job */
/** @typedef {import("#api").components["schemas"]["JobList"]} JobList */
/** @typedef {import("#api").components["schemas"]["Batch"]} Batch */
/** @typedef {import("#api").components["schemas"]["BatchList"]} BatchList */
/** @typedef {import("#api").components["schemas"]["ModelCard"]} ModelCard */
/** @typedef {import("#api").components["schemas"]["Comparison"]} Comparison */
/** @typedef {import("#api").components["schemas"]["Capacity"]} Capacity */
/** @typedef {import("#api").components["schemas"]["Operations"]} Operations */
/** @typedef {import("#api").components["schemas"]["Readiness"]} Readiness */

const UNAUTHORIZED = 401;

/**
 * The response to a request that worked. Raises a `Problem` for any other; asks for a key where one is missing.
 * @param {string} path
 * @param {{ method?: string, json?: unknown, headers?: Record<string, string>, signal?: AbortSignal }} [options]
 * @returns {Promise<Response>}
 */
export async function request(path, { method = "GET", json, headers = {}, signal } = {}) {
  const key = keyHeaders();
  const content = json === undefined ? {} : { "Content-Type": "application/json" };
  const body = json === undefined ? null : JSON.stringify(json);
  const sent = { Accept: "application/json", ...headers, ...key, ...content };
  const answer = await reach(path, { method, body, headers: sent, signal: signal ?? null, cache: "no-store" });
  if (answer.ok) return answer;
  if (answer.status === UNAUTHORIZED && (await obtainKey(key))) {
    return request(path, { method, json, headers, ...(signal ? { signal } : {}) });
  }
  throw problemOf(answer.status, await answer.text(), answer.headers.get("Retry-After"));
}

/**
 * @param {string} path
 * @param {RequestInit} init
 */
async function reach(path, init) {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw unreachable();
  }
}

/** @returns {Promise<ModelCard>} */
export async function readModel() {
  return (await request("model")).json();
}

/** @returns {Promise<Capacity>} */
export async function readCapacity() {
  return (await request("capacity")).json();
}

/**
 * How the service as a whole is doing. Needs a key with the scope `ops:read`.
 * @param {number} hours
 * @returns {Promise<Operations>}
 */
export async function readOperations(hours) {
  return (await request(`operations?hours=${hours}`)).json();
}

/**
 * What is in order, and what is not; asked without a key, and answered with 503 where something has failed.
 * @returns {Promise<Readiness["checks"]>}
 */
export async function readChecks() {
  const answer = await reach("readyz?verbose=true", { headers: { Accept: "application/json" }, cache: "no-store" });
  const { checks = {} } = await answer.json();
  return checks;
}

/**
 * @param {string} id
 * @returns {Promise<Job>}
 */
export async function readJob(id) {
  return (await request(jobPath(id))).json();
}

/**
 * @param {Record<string, string>} query
 * @returns {Promise<JobList>}
 */
export async function listJobs(query) {
  return (await request(`jobs?${new URLSearchParams(query)}`)).json();
}

/** @returns {Promise<BatchList>} the newest */
export async function listBatches() {
  return (await request("batches?limit=10")).json();
}

/**
 * Stop what has not ended of a batch.
 * @param {string} id
 * @returns {Promise<Batch>}
 */
export async function cancelBatch(id) {
  return (await request(`batches/${encodeURIComponent(id)}/cancel`, { method: "POST" })).json();
}

/**
 * @param {string} id
 * @returns {Promise<Job>}
 */
export async function cancelJob(id) {
  return (await request(`${jobPath(id)}/cancel`, { method: "POST" })).json();
}

/**
 * @param {string[]} jobIds
 * @param {Record<string, number>} criterion
 * @returns {Promise<Comparison>}
 */
export async function compareJobs(jobIds, criterion) {
  return (await request("compare", { method: "POST", json: { job_ids: jobIds, criterion } })).json();
}

/** @param {string} id */
export function jobPath(id) {
  return `jobs/${encodeURIComponent(id)}`;
}
