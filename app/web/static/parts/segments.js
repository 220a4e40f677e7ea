/** One score over the segments of a track, as steps of 30 s. */

import { label, meanings } from "../state/meaning.js";
import { fill, freshId, h, svg } from "./dom.js";
import { duration, scoreText } from "./format.js";
import { ofScore } from "./scores.js";

/** @typedef {import("../client/api.js").Job} Job */
/** @typedef {import("#api").components["schemas"]["Segment"]} Segment */

const [WIDTH, HEIGHT] = [1000, 100];
/** Of one segment the scores are those of the track. */
const MIN_SEGMENTS = 2;

/**
 * The picture, and below it what it shows in numbers, with the choice of the score.
 * @param {Job} job
 * @param {((atS: number) => void) | null} seek what a click on a segment does
 * @returns {{ plot: HTMLElement, controls: HTMLElement } | null} null for a job without several segments
 */
export function segmentChart(job, seek) {
  const { segments, basis } = job.result ?? {};
  if (!segments || segments.length < MIN_SEGMENTS) return null;
  const names = Object.keys(segments[0]?.scores ?? {});
  if (names.length === 0) return null;
  const [plot, values, id] = [h("div", { class: "steps" }), h("div", {}), freshId()];
  const choice = h(
    "select",
    { id, change: () => draw() },
    ...names.map((name) => h("option", { value: name }, label(name))),
  );
  const draw = () => {
    const range = ofScore(job.result?.ranges ?? {}, choice.value) ?? meanings.range(choice.value);
    [plot.dataset.low, plot.dataset.high] = range.map(String);
    fill(plot, steps(segments, choice.value, range));
    fill(values, table(segments, choice.value, seek));
  };
  choice.value = names.includes("musicality") ? "musicality" : (names[0] ?? "");
  draw();
  const controls = h(
    "div",
    { class: "segment-chart" },
    h("div", { class: "segment-head" }, h("label", { for: id, class: "hidden" }, "Score by segment"), choice, values),
    h("p", { class: "quiet" }, `Exploratory. ${basis?.detail ?? ""}`),
  );
  return { plot, controls };
}

/**
 * @param {Segment[]} segments
 * @param {string} name
 * @param {readonly number[]} range
 */
function steps(segments, name, [low = 0, high = 1]) {
  const endS = segments.at(-1)?.end_s || 1;
  const x = (/** @type {number} */ s) => (s / endS) * WIDTH;
  const y = (/** @type {number} */ value) => HEIGHT - ((value - low) / (high - low)) * HEIGHT;
  const line = segments
    .map(
      ({ start_s, end_s, scores }) =>
        `${x(start_s)},${y(ofScore(scores, name) ?? low)} ${x(end_s)},${y(ofScore(scores, name) ?? low)}`,
    )
    .join(" ");
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...segments.map(({ start_s }) => svg("line", { class: "grid", x1: x(start_s), x2: x(start_s), y1: 0, y2: HEIGHT })),
    svg("polygon", { class: "step-area", points: `0,${HEIGHT} ${line} ${WIDTH},${HEIGHT}` }),
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
  const text = (/** @type {Segment} */ segment) => scoreText(ofScore(segment.scores, name) ?? 0, range);
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
