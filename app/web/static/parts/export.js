/** Rows that are shown, as a file. */

import { ofScore } from "./scores.js";

/** @typedef {import("../client/api.js").Job} Job */

/**
 * Jobs as CSV: a line for each, a column for each score.
 * @param {Job[]} jobs
 * @param {string[]} scores
 * @param {(job: Job) => string} nameOf
 */
export function csv(jobs, scores, nameOf) {
  const head = ["id", "name", "status", "created_at", "duration_s", "model_version", ...scores, "error"];
  const rows = jobs.map((job) => [
    job.id,
    nameOf(job),
    job.status,
    job.created_at,
    job.audio.duration_s,
    job.model?.version,
    ...scores.map((name) => ofScore(job.result?.scores ?? {}, name)),
    job.error?.code,
  ]);
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
}

/**
 * A spreadsheet would run what begins like a formula: it is made text.
 * @param {unknown} value
 */
export function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * @param {string} name
 * @param {string} type
 * @param {string} text
 */
export function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
