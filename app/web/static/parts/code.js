/** Do this in code: a panel that is made when it is opened. */
import { fill, freshId, h } from "./dom.js";

/** @typedef {import("./snippets.js").Call} Call */

/** @param {() => Call} describe what was done, asked when the panel is opened */
export function inCode(describe) {
  const body = h("div", {});
  const details = h(
    "details",
    { class: "in-code", toggle: () => details.open && show() },
    h("summary", {}, "Do this in code"),
    body,
  );
  const show = async () => {
    const { LANGUAGES } = await import("./snippets.js");
    fill(body, panel(describe(), LANGUAGES));
  };
  return details;
}

/**
 * @param {Call} call
 * @param {[string, (call: Call, root: string) => string][]} languages
 */
function panel(call, languages) {
  const [name, root] = [freshId(), new URL(".", document.baseURI).href.replace(/\/$/, "")];
  const code = h("code", {});
  const show = (/** @type {number} */ n) => {
    code.textContent = languages[n]?.[1](call, root) ?? "";
  };
  show(0);
  const copied = h("span", { class: "quiet", role: "status" });
  const copy = () => {
    getSelection()?.selectAllChildren(code);
    document.execCommand("copy");
    copied.textContent = "Copied.";
  };
  return h(
    "div",
    { class: "code" },
    h(
      "div",
      { class: "code-head" },
      h(
        "fieldset",
        { class: "choices" },
        h("legend", { class: "hidden" }, "Language"),
        ...languages.map(([language], n) =>
          h(
            "label",
            {},
            h("input", { type: "radio", name, checked: n === 0, change: () => show(n) }),
            h("span", {}, language),
          ),
        ),
      ),
      copied,
      h("button", { type: "button", class: "plain", click: copy }, "Copy"),
    ),
    h("pre", { tabindex: 0, "aria-label": "Code" }, code),
  );
}
