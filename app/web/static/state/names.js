/** What tracks are called. Names of files stay in this tab, unless the person has them sent along. */

/** @typedef {import("../client/api.js").Job} Job */

const STORED_AS = "apex-names";
const MAX_NAMES = 500;

/** @type {Map<string, string>} */
const names = new Map(stored());

/**
 * @param {string} jobId
 * @param {string} name
 */
export function rememberName(jobId, name) {
  if (names.get(jobId) === name) return;
  names.set(jobId, name);
  sessionStorage.setItem(STORED_AS, JSON.stringify([...names].slice(-MAX_NAMES)));
}

/**
 * What a job's track is called: as its file here, or as its sender named it.
 * @param {Job} job
 */
export function nameOf(job) {
  return names.get(job.id) ?? job.external_id ?? `Track ${job.id.replace(/^job_/, "").slice(0, 8)}`;
}

/** @returns {[string, string][]} */
function stored() {
  try {
    const found = JSON.parse(sessionStorage.getItem(STORED_AS) ?? "[]");
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}
