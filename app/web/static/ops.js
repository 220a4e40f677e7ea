/** The page for operators: how much waits, who works, what failed, and what is not in order. It changes nothing. */
import { readCapacity, readChecks, readModel, readOperations } from "./client/api.js";
import { showModel } from "./parts/about.js";
import { otherKeyButton, wireKey } from "./parts/dialog.js";
import { byId, fill, h } from "./parts/dom.js";
import { counted, duration, roughly, size } from "./parts/format.js";
import { columnPlot, columnTable, countTable } from "./parts/plots.js";
import { problemNote } from "./parts/problem.js";

/** @typedef {import("./client/api.js").Capacity} Capacity */
/** @typedef {import("./client/api.js").Operations} Operations */

const REFRESH_S = 5;
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

/**
 * @param {Capacity} capacity
 * @param {Operations} operations
 */
function tiles({ queue, jobs_running: running, audio_seconds_per_second: speed, estimated_wait_s: wait }, operations) {
  const paused = operations.workers.filter((worker) => worker.paused).length;
  const free = operations.storage.free_bytes;
  /** @type {[string, string, string][]} */
  const shown = [
    ["Tracks waiting", String(queue.jobs), `${duration(queue.audio_seconds)} of audio`],
    ["Running", String(running), ""],
    ["Workers", String(operations.workers.length), paused ? `${paused} paused` : ""],
    ["Speed of a worker", speed === null ? "–" : `${Math.round(speed)}×`, "as fast as it plays"],
    ["Wait of a new track", wait === null ? "unknown" : wait < 1 ? "none" : roughly(wait).replace("about ", ""), ""],
    ["Room for audio", free === null ? "unlimited" : size(free), `${size(operations.storage.needed_bytes)} needed`],
  ];
  return shown.map(([name, value, note]) =>
    h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, note ? h("small", {}, note) : null)),
  );
}

/** @param {Operations["workers"]} workers */
function workerTable(workers) {
  if (workers.length === 0) return h("p", { class: "quiet" }, "No worker is alive: tracks wait.");
  const heads = ["Host", "Model", "Device", "State"].map((name) => h("th", { scope: "col" }, name));
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, ...heads)),
    h("tbody", {}, ...workers.map((worker) => workerRow(worker))),
  );
}

/** @param {Operations["workers"][number]} worker */
function workerRow({ host, model_version: version, device, paused }) {
  const state = h("span", { class: "status", "data-status": paused ? "warning" : "ok" }, paused ? "paused" : "active");
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, host ?? "unknown"),
    ...[version, device].map((said) => h("td", {}, said || "unknown")),
    h("td", {}, state),
  );
}

/** @param {Operations} operations */
function showActivity({ activity, interval_s: intervalS }) {
  const [first, last] = [activity[0], activity.at(-1)];
  if (!first || !last) return;
  const ends = { from: clock(first.start_at), to: CLOCK.format(Date.parse(last.start_at) + intervalS * 1000) };
  const throughput = activity.map(({ start_at, succeeded, failed, canceled }) => {
    const value = succeeded + failed + canceled;
    return { at: clock(start_at), text: `${counted(value, "job")}, ${failed} failed`, value, part: failed };
  });
  const waits = activity.map(({ start_at, mean_wait_s: mean, longest_wait_s: longest }) => {
    const text = longest === null ? "nothing began" : `${seconds(mean)} on average, ${seconds(longest)} at most`;
    return { at: clock(start_at), text, value: longest ?? 0, part: mean ?? 0 };
  });
  showColumns("throughput", throughput, {
    label: "Jobs that ended",
    kinds: ["mark", "mark-failed"],
    unit: String,
    ...ends,
  });
  showColumns("waits", waits, { label: "Longest wait", kinds: ["mark-soft", "mark"], unit: seconds, ...ends });
  fill(byId("failures", HTMLElement), countTable(failures(activity), "Nothing failed in this time."));
}

/**
 * @param {string} id
 * @param {import("./parts/plots.js").Column[]} columns
 * @param {Parameters<typeof columnPlot>[1]} words
 */
function showColumns(id, columns, words) {
  fill(byId(id, HTMLElement), columnPlot(columns, words));
  fill(byId(`${id}-numbers`, HTMLElement), columnTable(columns));
}

/** @param {Operations["activity"]} activity */
function failures(activity) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { failures: some } of activity)
    for (const [code, n] of Object.entries(some)) counts.set(code, (counts.get(code) ?? 0) + n);
  return counts;
}

/** @param {string} timestamp */
function clock(timestamp) {
  return CLOCK.format(Date.parse(timestamp));
}

/** @param {number | null} value */
function seconds(value) {
  return `${(value ?? 0).toFixed(1)} s`;
}

/** @param {Awaited<ReturnType<typeof readChecks>>} checks */
function checkRows(checks) {
  return Object.entries(checks).map(([name, { status, detail }]) =>
    h(
      "li",
      {},
      h("span", { class: "status", "data-status": status }, status),
      h("code", {}, name),
      h("span", {}, detail ?? ""),
    ),
  );
}

/** Read everything anew. What cannot be read leaves what was shown, and says why. */
async function refresh() {
  const hours = byId("hours", HTMLSelectElement).value;
  const [capacity, operations] = await Promise.all([readCapacity(), readOperations(Number(hours))]);
  fill(byId("tiles", HTMLElement), ...tiles(capacity, operations));
  fill(byId("workers", HTMLElement), workerTable(operations.workers));
  showActivity(operations);
  fill(byId("checks", HTMLElement), ...checkRows(await readChecks()));
  byId("refreshed", HTMLElement).textContent =
    `Read at ${new Date().toLocaleTimeString()}, again every ${REFRESH_S} seconds. Jobs of all tenants.`;
  fill(byId("trouble", HTMLElement));
}

/** A key that is refused would be refused again: then another one is waited for. */
async function refreshForEver() {
  try {
    if (!document.hidden) await refresh();
  } catch (error) {
    const button = otherKeyButton(error, start);
    fill(byId("trouble", HTMLElement), problemNote(error, { action: button }));
    if (button) return;
  }
  setTimeout(refreshForEver, REFRESH_S * 1000);
}

async function start() {
  await readModel()
    .then(showModel)
    .catch(() => {});
  await refreshForEver();
}

wireKey();
byId("hours", HTMLSelectElement).addEventListener("change", () => refresh().catch(() => {}));
start();
document.documentElement.dataset.ready = "";
