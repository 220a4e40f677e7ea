/** The scores of a job: each a bar in its range, with its value, and what it means. */

import { isPopularity, label, meanings, POPULARITY_ERROR } from "../state/meaning.js";
import { h, styled } from "./dom.js";
import { scoreText } from "./format.js";

/** @typedef {import("../client/api.js").Job} Job */
/** @typedef {NonNullable<Job["result"]>} Result */

/**
 * @param {Job} job that succeeded
 * @returns {HTMLElement}
 */
export function scoreboard(job) {
  const result = /** @type {Result} */ (job.result);
  const names = Object.keys(result.scores);
  return h(
    "div",
    { class: "scoreboard" },
    group("Popularity", "As plays and likes would count it", names.filter(isPopularity), job),
    group(
      "Aesthetics",
      "As SongEval would rate the song",
      names.filter((name) => !isPopularity(name)),
      job,
    ),
    result.spread
      ? h(
          "p",
          { class: "spread-note" },
          "The line under a bar: where the score would lie if the song had other parts of its kind.",
        )
      : null,
  );
}

/**
 * @param {string} title
 * @param {string} lead
 * @param {string[]} names
 * @param {Job} job
 */
function group(title, lead, names, job) {
  if (names.length === 0) return null;
  return h(
    "section",
    { class: `scores scores-${title.toLowerCase()}` },
    h("h3", {}, title, " ", h("small", {}, lead)),
    h("ul", {}, ...names.map((name) => row(name, job))),
  );
}

/**
 * @param {string} name
 * @param {Job} job
 */
function row(name, job) {
  const result = /** @type {Result} */ (job.result);
  const value = ofScore(result.scores, name) ?? 0;
  const range = ofScore(result.ranges, name) ?? meanings.range(name);
  const text = scoreText(value, range);
  return h(
    "li",
    { class: "score", "data-score": name },
    h(
      "div",
      { class: "score-head" },
      h("span", { class: "score-name" }, label(name)),
      h("span", { class: "score-value" }, text, " ", h("small", {}, `of ${range[1]}`)),
    ),
    bar(name, job, value, range, text),
    h(
      "p",
      { class: "score-note" },
      [meanings.sentence(name), percentileText(result, name), errorText(name, job)].filter(Boolean).join(" "),
    ),
  );
}

/**
 * @param {string} name
 * @param {Job} job
 * @param {number} value
 * @param {readonly number[]} range
 * @param {string} text
 */
function bar(name, job, value, range, text) {
  const [low = 0, high = 1] = range;
  const spread = spreadOf(/** @type {Result} */ (job.result), name, range);
  const meter = h(
    "div",
    {
      class: "bar",
      role: "meter",
      title: spread && `${text}; ${spread.text}`,
      "aria-label": label(name),
      "aria-valuemin": low,
      "aria-valuemax": high,
      "aria-valuenow": text,
      "aria-valuetext": `${text}, in a range of ${low} to ${high}${spread ? `; ${spread.text}` : ""}`,
    },
    spread?.line ?? null,
  );
  return styled(meter, {
    at: share(value, range),
    error: hasKnownError(name, job) ? POPULARITY_ERROR / (high - low) : 0,
  });
}

/**
 * Where a value lies in its range, 0 to 1.
 * @param {number} value
 * @param {readonly number[]} range
 */
function share(value, [low = 0, high = 1]) {
  return Math.min(Math.max((value - low) / (high - low), 0), 1);
}

/**
 * Within what the score would lie, had the track other segments of its kind; null for one segment.
 * @param {Result} result
 * @param {string} name
 * @param {readonly number[]} range
 */
function spreadOf({ spread }, name, range) {
  const bounds = spread ? ofScore(spread, name) : undefined;
  if (!Array.isArray(bounds)) return null;
  const [from, to] = /** @type {[number, number]} */ (bounds);
  return {
    text: `${scoreText(from, range)} to ${scoreText(to, range)} with other parts`,
    line: styled(h("span", { class: "spread" }), { from: share(from, range), to: share(to, range) }),
  };
}

/**
 * Whether the typical error is known: that of popularity, by a model that has learned something.
 * @param {string} name
 * @param {Job} job
 */
function hasKnownError(name, job) {
  return isPopularity(name) && Boolean(job.model?.trained);
}

/**
 * @param {string} name
 * @param {Job} job
 */
function errorText(name, job) {
  return hasKnownError(name, job) ? `Typically off by about ${POPULARITY_ERROR} points.` : "";
}

/**
 * The place in the reference of the weights, where they have one.
 * @param {Result} result
 * @param {string} name
 */
function percentileText({ percentiles }, name) {
  const value = percentiles ? ofScore(percentiles, name) : undefined;
  if (!percentiles || typeof value !== "number") return "";
  const { name: reference, n_tracks: nTracks } = percentiles.reference;
  return `Higher than ${Math.round(value)} % of the ${nTracks.toLocaleString()} tracks of “${reference}”.`;
}

/**
 * @template T
 * @param {{ readonly [name: string]: T }} perScore
 * @param {string} name
 * @returns {T | undefined}
 */
export function ofScore(perScore, name) {
  return perScore[name];
}
