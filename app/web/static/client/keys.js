/** The API key: asked for when the service refuses a request without one, kept until the tab is closed. */

const STORED_AS = "apex-key";

/** @type {(() => Promise<string | null>) | null} */
let askPerson = null;
/** @type {Promise<boolean> | null} */
let asking = null;

/** @returns {Record<string, string>} */
export function keyHeaders() {
  const key = sessionStorage.getItem(STORED_AS);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export function hasKey() {
  return sessionStorage.getItem(STORED_AS) !== null;
}

export function forgetKey() {
  sessionStorage.removeItem(STORED_AS);
}

/**
 * Say how a person is asked for a key.
 * @param {() => Promise<string | null>} ask null: they would rather not
 */
export function askWith(ask) {
  askPerson = ask;
}

/**
 * Have a person give a key, once for all requests that wait for it.
 * @param {Record<string, string>} refused the headers of the request that was refused
 * @returns {Promise<boolean>} whether there is another key now
 */
export async function obtainKey(refused) {
  if (refused.Authorization !== keyHeaders().Authorization) return true;
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

async function ask() {
  const key = askPerson ? await askPerson() : null;
  if (!key) return false;
  sessionStorage.setItem(STORED_AS, key);
  return true;
}
