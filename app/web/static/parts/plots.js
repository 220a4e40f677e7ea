/** Small plots over time, and the same as tables. */
import { h, svg } from "./dom.js";

const [WIDTH, HEIGHT, MARGIN] = [480, 160, 34];

/**
 * @typedef {object} Column
 * @property {string} at when it begins
 * @property {string} text the column in words
 * @property {number} value
 * @property {number} [part] of the value, which is drawn in another colour
 */

/**
 * Columns over time. They are a picture alone: `columnTable` says the same.
 * @param {Column[]} columns
 * @param {{ label: string, kinds: [string, string], from: string, to: string, unit: (value: number) => string }} words
 * @returns {Element}
 */
export function columnPlot(columns, { label, kinds, from, to, unit }) {
  const highest = Math.max(...columns.map(({ value }) => value), 0);
  if (highest === 0) return h("p", { class: "quiet" }, "Nothing in this time.");
  const [step, tall] = [(WIDTH - MARGIN) / columns.length, HEIGHT - 24];
  const y = (/** @type {number} */ value) => tall - (value / highest) * (tall - 12);
  const column = (/** @type {number} */ n, /** @type {number} */ value, /** @type {string} */ kind) =>
    svg("rect", {
      class: kind,
      x: MARGIN + n * step + step * 0.1,
      width: step * 0.8,
      y: y(value),
      height: tall - y(value),
      rx: Math.min(2, step / 4),
    });
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${label}: highest ${unit(highest)}` },
    svg("line", { class: "axis", x1: MARGIN, x2: WIDTH, y1: tall, y2: tall }),
    svg("text", { x: 0, y: 12 }, unit(highest)),
    svg("text", { x: MARGIN, y: HEIGHT - 4 }, from),
    svg("text", { x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, to),
    ...columns.map(({ at, text, value, part = 0 }, n) =>
      svg(
        "g",
        {},
        svg("title", {}, `${at}: ${text}`),
        column(n, value, kinds[0]),
        part ? column(n, part, kinds[1]) : null,
      ),
    ),
  );
}

/**
 * The columns in words, newest first, without the empty ones.
 * @param {Column[]} columns
 */
export function columnTable(columns) {
  const told = columns.filter(({ value }) => value > 0).toReversed();
  return table(told.map(({ at, text }) => [at, text]));
}

/**
 * How often each of some names occurs.
 * @param {Map<string, number>} counts
 * @param {string} none what is said where there is nothing
 */
export function countTable(counts, none) {
  if (counts.size === 0) return h("p", { class: "quiet" }, none);
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return table(sorted.map(([name, count]) => [name, String(count)]));
}

/** @param {[string, string][]} rows */
function table(rows) {
  return h(
    "table",
    {},
    h("tbody", {}, ...rows.map(([name, text]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, text)))),
  );
}
