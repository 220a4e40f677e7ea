/** The API key as a person meets it: asked for where one is missing, and forgotten when they say so. */
import { askWith, forgetKey, hasKey, keyHeaders, obtainKey } from "../client/keys.js";
import { Problem } from "../client/problem.js";
import { byId, h } from "./dom.js";

/** What only another key can mend. */
const OF_THE_KEY = ["unauthorized", "forbidden_scope"];

/**
 * Have requests that lack a key ask a person for it.
 * @param {() => void} [onKey] called when one was given
 */
export function wireKey(onKey) {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const forget = byId("forget-key", HTMLButtonElement);
  byId("key-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close("use");
  });
  byId("key-cancel", HTMLButtonElement).addEventListener("click", () => dialog.close(""));
  forget.addEventListener("click", () => {
    forgetKey();
    location.reload();
  });
  forget.hidden = !hasKey();
  askWith(async () => {
    const key = await askForKey(dialog);
    forget.hidden = !(key || hasKey());
    if (key && onKey) setTimeout(onKey);
    return key;
  });
}

/**
 * @param {HTMLDialogElement} dialog
 * @returns {Promise<string | null>} null: they would rather not
 */
function askForKey(dialog) {
  const field = byId("key", HTMLInputElement);
  byId("key-refused", HTMLElement).hidden = !hasKey();
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const end = () => resolve(dialog.returnValue === "use" ? field.value.trim() || null : null);
    dialog.addEventListener("close", end, { once: true });
  });
}

/**
 * What asks for another key, and then goes on; null for an error that no key would mend.
 * @param {unknown} error
 * @param {() => void} goOn
 */
export function otherKeyButton(error, goOn) {
  if (!(error instanceof Problem) || !OF_THE_KEY.includes(error.code)) return null;
  const ask = async () => (await obtainKey(keyHeaders())) && goOn();
  return h("button", { type: "button", click: ask }, hasKey() ? "Use another key" : "Give a key");
}
