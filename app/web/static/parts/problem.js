/** A problem as its reader needs it: what happened, and where the rest is explained. */
import { Problem } from "../client/problem.js";
import { h } from "./dom.js";

/** @typedef {import("../client/problem.js").ProblemBody} ProblemBody */

/**
 * @param {unknown} error
 * @param {{ action?: HTMLElement | null }} [options]
 */
export function problemNote(error, { action = null } = {}) {
  const body = error instanceof Problem ? error.body : { title: "The page has failed", detail: String(error) };
  return h(
    "div",
    { class: "problem" },
    h("p", { class: "problem-title" }, body.title ?? "Something went wrong"),
    body.detail ? h("p", {}, body.detail) : null,
    fieldErrors(body),
    h("p", { class: "problem-more" }, action, explanation(body), requestId(body)),
  );
}

/** @param {ProblemBody} body */
function fieldErrors({ errors }) {
  if (!errors?.length) return null;
  return h("ul", {}, ...errors.map(({ pointer, detail }) => h("li", {}, h("code", {}, pointer), " ", detail)));
}

/** @param {ProblemBody} body */
function explanation({ code }) {
  if (!code || !/^[a-z_]+$/.test(code)) return null;
  return h(
    "a",
    { href: `problems/${code.replaceAll("_", "-")}`, target: "_blank", rel: "noopener" },
    "What this means",
  );
}

/** @param {ProblemBody} body */
function requestId({ request_id: id }) {
  return id ? h("span", { class: "quiet" }, "Request ", h("code", {}, id)) : null;
}
