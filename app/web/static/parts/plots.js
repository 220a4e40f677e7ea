/** Small plots, each with its numbers in words beside it. */
import { h, svg } from "./dom.js";

const [WIDTH, HEIGHT, MARGIN] = [480, 160, 34];

/**
 * @typedef {object} Column
 * @property {string} title of the column, for its tooltip
 * @property {number} value
 * @property {number} [failed] part of the value that is drawn as failed
 */

/**
 * Columns over time.
 * @param {Column[]} columns
 * @param {{ label: string, from: string, to: string, text: (value: number) => string }} words
 */
export function columnPlot(columns, { label, from, to, text }) {
  const highest = Math.max(...columns.map(({ value }) => value), 0);
  if (highest === 0) return h("p", { class: "quiet" }, "Nothing in this time.");
  const [step, tall] = [(WIDTH - MARGIN) / columns.length, HEIGHT - 24];
  const y = (/** @type {number} */ value) => tall - (value / highest) * (tall - 12);
  /** @type {(n: number, value: number, kind: string) => SVGRectElement} */
  const column = (n, value, kind) =>
    svg("rect", {
      class: kind,
      x: MARGIN + n * step + 1,
      width: Math.max(step - 2, 1),
      y: y(value),
      height: tall - y(value),
      rx: 2,
    });
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${label}: highest ${text(highest)}` },
    svg("line", { class: "axis", x1: MARGIN, x2: WIDTH, y1: tall, y2: tall }),
    svg("text", { x: 0, y: 12 }, text(highest)),
    svg("text", { x: MARGIN, y: HEIGHT - 4 }, from),
    svg("text", { x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, to),
    ...columns.map(({ title, value, failed = 0 }, n) =>
      svg("g", {}, svg("title", {}, title), column(n, value, "mark"), failed ? column(n, failed, "mark-failed") : null),
    ),
  );
}

/**
 * How often each of some names occurs.
 * @param {Map<string, number>} counts
 * @param {string} none what is said where there is nothing
 */
export function countTable(counts, none) {
  if (counts.size === 0) return h("p", { class: "quiet" }, none);
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return h(
    "table",
    {},
    h(
      "tbody",
      {},
      ...sorted.map(([name, count]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, String(count)))),
    ),
  );
}
