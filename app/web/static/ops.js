/** The page for operators: how much waits, who works, what failed, and what is not in order. It changes nothing. */
import { listJobs, readCapacity, readModel } from "./client/api.js";
import { showModel } from "./parts/about.js";
import { wireKey } from "./parts/dialog.js";
import { byId, fill, h } from "./parts/dom.js";
import { counted, duration, roughly } from "./parts/format.js";
import { columnPlot, countTable } from "./parts/plots.js";
import { problemNote } from "./parts/problem.js";

/** @typedef {import("./client/api.js").Job} Job */
/** @typedef {import("./client/api.js").Capacity} Capacity */

const REFRESH_S = 5;
const HISTORY_REFRESH_S = 60;
const HOURS = 6;
const BUCKET_S = 15 * 60;
const MAX_PAGES = 10;
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

/** @param {Capacity} capacity */
function showCapacity(capacity) {
  const { queue, audio_seconds_per_second: speed, estimated_wait_s: wait } = capacity;
  /** @type {[string, string][]} */
  const tiles = [
    ["Tracks waiting", String(queue.jobs)],
    ["Audio waiting", duration(queue.audio_seconds)],
    ["Running", String(capacity.jobs_running)],
    [
      "Workers",
      capacity.workers_paused
        ? `${capacity.workers_alive} (${capacity.workers_paused} paused)`
        : String(capacity.workers_alive),
    ],
    ["Speed of a worker", speed === null ? "–" : `${Math.round(speed)}×`],
    ["Wait of a new track", wait === null ? "unknown" : wait < 1 ? "none" : roughly(wait).replace("about ", "")],
  ];
  fill(
    byId("tiles", HTMLElement),
    ...tiles.map(([name, value]) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value))),
  );
  const workers = new Map(capacity.models.map(({ version, workers_alive: alive }) => [version, alive]));
  fill(byId("workers", HTMLElement), countTable(workers, "No worker is alive: tracks wait."));
}

/** What is in order, and what is not; asked without a key, and answered with 503 where something has failed. */
async function showChecks() {
  const answer = await fetch("readyz?verbose=true", { headers: { Accept: "application/json" }, cache: "no-store" });
  /** @type {{ checks?: Record<string, { status: string, detail?: string }> }} */
  const { checks = {} } = await answer.json();
  fill(
    byId("checks", HTMLElement),
    ...Object.entries(checks).map(([name, { status, detail }]) =>
      h(
        "li",
        {},
        h("span", { class: "status", "data-status": status }, status),
        h("code", {}, name),
        h("span", {}, detail ?? ""),
      ),
    ),
  );
}

async function refresh() {
  const refreshed = byId("refreshed", HTMLElement);
  try {
    showCapacity(await readCapacity());
    await showChecks();
    refreshed.textContent = `Read at ${new Date().toLocaleTimeString()}, again every ${REFRESH_S} seconds. Plots show the last ${HOURS} hours of this key’s tenant.`;
    fill(byId("trouble", HTMLElement));
  } catch (error) {
    fill(byId("trouble", HTMLElement), problemNote(error));
  }
}

/** Jobs of the last hours, newest first; of a busy tenant the newest thousand. */
async function recentJobs() {
  const after = new Date(Date.now() - HOURS * 3600 * 1000).toISOString();
  /** @type {Job[]} */
  const jobs = [];
  let cursor = null;
  for (let n = 0; n < MAX_PAGES; n += 1) {
    /** @type {import("./client/api.js").JobList} */
    const page = await listJobs({ created_after: after, limit: "100", ...(cursor ? { cursor } : {}) });
    jobs.push(...page.items);
    cursor = page.next_cursor;
    if (!cursor) break;
  }
  return jobs;
}

async function refreshHistory() {
  const [nowS, jobs] = [Date.now() / 1000, await recentJobs()];
  const buckets = bucketed(jobs, nowS);
  const ends = { from: CLOCK.format((nowS - HOURS * 3600) * 1000), to: CLOCK.format(nowS * 1000) };
  const throughput = buckets.map(({ at, jobs: some }) => {
    const failed = some.filter(({ status }) => status === "failed").length;
    return { title: `${at}: ${counted(some.length, "job")}, ${failed} failed`, value: some.length, failed };
  });
  const waits = buckets.map(({ at, jobs: some }) => {
    const value = Math.max(...some.map(({ timings }) => timings.queue_s ?? 0), 0);
    return { title: `${at}: ${value.toFixed(1)} s at most`, value };
  });
  fill(
    byId("throughput", HTMLElement),
    columnPlot(throughput, { label: "Jobs per quarter of an hour", text: String, ...ends }),
  );
  fill(
    byId("waits", HTMLElement),
    columnPlot(waits, { label: "Longest wait", text: (value) => `${value.toFixed(1)} s`, ...ends }),
  );
  fill(byId("failures", HTMLElement), countTable(failures(jobs), "Nothing failed in this time."));
}

/**
 * @param {Job[]} jobs
 * @param {number} nowS
 */
function bucketed(jobs, nowS) {
  const n = (HOURS * 3600) / BUCKET_S;
  const buckets = Array.from({ length: n }, (_, index) => ({
    at: CLOCK.format((nowS - (n - index) * BUCKET_S) * 1000),
    jobs: /** @type {Job[]} */ ([]),
  }));
  for (const job of jobs) {
    const index = n - 1 - Math.floor((nowS - Date.parse(job.created_at) / 1000) / BUCKET_S);
    buckets[Math.min(Math.max(index, 0), n - 1)]?.jobs.push(job);
  }
  return buckets;
}

/** @param {Job[]} jobs */
function failures(jobs) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { error } of jobs) if (error) counts.set(error.code, (counts.get(error.code) ?? 0) + 1);
  return counts;
}

/**
 * @param {() => Promise<void>} work
 * @param {number} seconds
 */
async function every(work, seconds) {
  if (!document.hidden) await work().catch((error) => fill(byId("trouble", HTMLElement), problemNote(error)));
  setTimeout(() => every(work, seconds), seconds * 1000);
}

wireKey();
readModel()
  .then(showModel)
  .catch((error) => fill(byId("trouble", HTMLElement), problemNote(error)))
  .finally(() => {
    every(refresh, REFRESH_S);
    every(refreshHistory, HISTORY_REFRESH_S);
  });
document.documentElement.dataset.ready = "";
