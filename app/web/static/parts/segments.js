/** One score over the segments of a track, as steps of 30 s. */
import { fill, freshId, h, svg } from "./dom.js";
import { duration, scoreText } from "./format.js";
import { label, meanings } from "./meaning.js";
import { ofScore } from "./scores.js";

/** @typedef {import("../client/api.js").Job} Job */
/** @typedef {{ start_s: number, end_s: number, scores: Record<string, number> }} Segment */

const [WIDTH, HEIGHT] = [1000, 100];

/**
 * The segments that a result has; those of a service that gives none are none.
 * @param {Job} job
 * @returns {Segment[]}
 */
export function segmentsOf(job) {
  const result = /** @type {{ segments?: Segment[] | null } | null} */ (job.result);
  return result?.segments ?? [];
}

/**
 * @param {Job} job
 * @param {((atS: number) => void) | null} seek what a click on a segment does
 * @returns {HTMLElement | null} null for a job without segments
 */
export function segmentChart(job, seek) {
  const segments = segmentsOf(job);
  const names = Object.keys(segments[0]?.scores ?? {});
  if (names.length === 0) return null;
  const [plot, id] = [h("div", { class: "steps" }), freshId()];
  const choice = h(
    "select",
    { id, change: () => draw() },
    ...names.map((name) => h("option", { value: name }, label(name))),
  );
  const draw = () => fill(plot, steps(segments, choice.value, job), table(segments, choice.value, seek));
  choice.value = names.includes("musicality") ? "musicality" : (names[0] ?? "");
  draw();
  return h(
    "div",
    { class: "segment-chart" },
    h(
      "p",
      { class: "segment-head" },
      h("label", { for: id }, "Every 30 seconds"),
      choice,
      h("span", { class: "quiet" }, "Exploratory: the model learned from whole songs."),
    ),
    plot,
  );
}

/**
 * @param {Segment[]} segments
 * @param {string} name
 * @param {Job} job
 */
function steps(segments, name, job) {
  const [low = 0, high = 1] = ofScore(job.result?.ranges ?? {}, name) ?? meanings.range(name);
  const endS = segments.at(-1)?.end_s || 1;
  const x = (/** @type {number} */ s) => (s / endS) * WIDTH;
  const y = (/** @type {number} */ value) => HEIGHT - ((value - low) / (high - low)) * HEIGHT;
  const line = segments
    .map(
      ({ start_s, end_s, scores }) => `${x(start_s)},${y(scores[name] ?? low)} ${x(end_s)},${y(scores[name] ?? low)}`,
    )
    .join(" ");
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...segments.map(({ start_s }) => svg("line", { class: "grid", x1: x(start_s), x2: x(start_s), y1: 0, y2: HEIGHT })),
    svg("polyline", { class: "step-line", points: line }),
  );
}

/**
 * The same in numbers; each a button that goes there, where there is something to hear.
 * @param {Segment[]} segments
 * @param {string} name
 * @param {((atS: number) => void) | null} seek
 */
function table(segments, name, seek) {
  const range = meanings.range(name);
  const text = (/** @type {Segment} */ segment) => scoreText(segment.scores[name] ?? 0, range);
  return h(
    "ol",
    { class: "step-values", "aria-label": `${label(name)} by segment` },
    ...segments.map((segment) =>
      h(
        "li",
        {},
        seek
          ? h(
              "button",
              { type: "button", class: "step", click: () => seek(segment.start_s) },
              h("span", {}, duration(segment.start_s)),
              " ",
              text(segment),
            )
          : h("span", { class: "step" }, h("span", {}, duration(segment.start_s)), " ", text(segment)),
      ),
    ),
  );
}
