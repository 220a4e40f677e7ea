/** The jobs of this key, or of a service without keys: filtered, opened, exported. */
import { listJobs, readJob } from "../client/api.js";
import { BatchList } from "../parts/batches.js";
import { TrackCard } from "../parts/card.js";
import { choiceBox } from "../parts/choice.js";
import { inCode } from "../parts/code.js";
import { otherKeyButton } from "../parts/dialog.js";
import { byId, fill, h } from "../parts/dom.js";
import { csv, download } from "../parts/export.js";
import { counted, duration, moment, scoreText } from "../parts/format.js";
import { problemNote } from "../parts/problem.js";
import { ofScore } from "../parts/scores.js";
import { label, meanings } from "../state/meaning.js";
import { nameOf } from "../state/names.js";
import { Track } from "../state/track.js";

/** @typedef {import("../client/api.js").Job} Job */

const PAGE_ROWS = "20";
/** How soon rows that are not final are read again. */
const AGAIN_S = 3;
/** @type {{ items: Job[] }} */
const NOTHING = { items: [] };
/** Days of the person's own time, as times: from the beginning of the first to the end of the last. */
/** @type {Readonly<Record<string, (day: string) => string>>} */
const DAYS = {
  created_after: (day) => new Date(`${day}T00:00`).toISOString(),
  created_before: (day) => new Date(`${day}T23:59:59.999`).toISOString(),
};

export class HistoryView {
  constructor() {
    /** @type {Job[]} */
    this.jobs = [];
    /** @type {string | null} */
    this.cursor = null;
    this.asked = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.batches = new BatchList(
      (id) => this.showBatch(id),
      () => this.read(),
    );
    this.form = byId("filters", HTMLFormElement);
    this.table = byId("jobs", HTMLElement);
    this.more = byId("more-jobs", HTMLButtonElement);
    this.opened = byId("opened", HTMLElement);
    const read = () => `jobs?${new URLSearchParams({ ...this.filters, limit: PAGE_ROWS })}`;
    byId("history-code", HTMLElement).append(inCode(() => ({ method: "GET", path: read() })));
    this.count = byId("job-count", HTMLElement);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.read();
    });
    this.form.addEventListener("change", () => this.read());
    this.more.addEventListener("click", () => this.readMore());
    byId("export-csv", HTMLButtonElement).addEventListener("click", () => this.exportCsv());
    byId("export-json", HTMLButtonElement).addEventListener("click", () => this.exportJson());
  }

  /** @returns {Record<string, string>} those that the person has filled in */
  get filters() {
    const given = [...new FormData(this.form)].map(
      ([name, value]) => /** @type {[string, string]} */ ([name, String(value).trim()]),
    );
    return Object.fromEntries(
      given.filter(([, value]) => value !== "").map(([name, value]) => [name, DAYS[name]?.(value) ?? value]),
    );
  }

  /** @param {string | null} jobId one to open */
  show(jobId) {
    this.read();
    if (jobId) this.open(jobId);
  }

  /** The first page of what the filters let through. */
  async read() {
    await Promise.all([this.batches.read(), this.readPage(null, [])]);
  }

  async readMore() {
    const before = this.jobs.length;
    await this.readPage(this.cursor, this.jobs);
    this.table.querySelectorAll("button")[before]?.focus();
  }

  /**
   * A page, unless another was asked for meanwhile.
   * @param {string | null} cursor
   * @param {Job[]} before
   */
  async readPage(cursor, before) {
    this.asked += 1;
    const asked = this.asked;
    const query = { ...this.filters, limit: PAGE_ROWS };
    const shown = await listJobs(cursor ? { ...query, cursor } : query).catch((error) =>
      problemNote(error, { action: otherKeyButton(error, () => this.read()) }),
    );
    if (asked !== this.asked) return;
    if (shown instanceof HTMLElement) {
      fill(this.table, shown);
      return;
    }
    this.jobs = [...before, ...shown.items];
    this.cursor = shown.next_cursor;
    this.showRows();
  }

  showRows() {
    this.more.hidden = this.cursor === null;
    this.count.textContent =
      this.jobs.length === 0
        ? "No track matches."
        : `${counted(this.jobs.length, "track")} shown${this.cursor ? ", there are more" : ""}`;
    const focused = this.controls.findIndex((each) => each === document.activeElement);
    fill(this.table, this.jobs.length === 0 ? null : this.rows());
    this.controls[focused]?.focus();
    clearTimeout(this.timer);
    if (this.jobs.some(({ done }) => !done)) this.timer = setTimeout(() => this.readAgain(), AGAIN_S * 1000);
  }

  /** @returns {HTMLElement[]} what can be pressed in the table */
  get controls() {
    return [...this.table.querySelectorAll("button, input")].filter((each) => each instanceof HTMLElement);
  }

  /** What became of the shown jobs, while somebody looks. Jobs that came meanwhile wait until they are asked for. */
  async readAgain() {
    const { asked } = this;
    const isSeen = !document.hidden && this.table.checkVisibility();
    const { items } = isSeen ? await listJobs({ ...this.filters, limit: PAGE_ROWS }).catch(() => NOTHING) : NOTHING;
    if (asked !== this.asked) return;
    const newer = new Map(items.map((job) => [job.id, job]));
    this.jobs = this.jobs.map((job) => newer.get(job.id) ?? job);
    this.showRows();
  }

  rows() {
    const names = meanings.names;
    return h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ...["Track", "Compare", "State", "Length", ...names.map(label)].map((title) =>
            h("th", { scope: "col" }, title),
          ),
        ),
      ),
      h("tbody", {}, ...this.jobs.map((job) => this.row(job, names))),
    );
  }

  /**
   * @param {Job} job
   * @param {string[]} names
   */
  row(job, names) {
    return h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        h("button", { type: "button", class: "link", click: () => this.open(job.id) }, nameOf(job)),
        h("small", {}, moment(job.created_at)),
      ),
      h("td", {}, job.status === "succeeded" ? choiceBox(new Track({ job })) : null),
      h("td", {}, h("span", { class: "status", "data-status": job.status }, job.status)),
      h("td", {}, job.audio.duration_s ? duration(job.audio.duration_s) : "–"),
      ...names.map((name) => {
        const value = ofScore(job.result?.scores ?? {}, name);
        return h("td", {}, value === undefined ? "–" : scoreText(value, meanings.range(name)));
      }),
    );
  }

  /**
   * Show one job above the list.
   * @param {string} id
   */
  async open(id) {
    try {
      const track = new Track({ job: await readJob(id) });
      const card = new TrackCard(track, () => this.close());
      fill(this.opened, card.element);
      card.title.focus();
      track.follow().catch((problem) => track.change({ phase: "failed", problem }));
    } catch (error) {
      fill(this.opened, problemNote(error));
    }
  }

  /**
   * Show the tracks of one batch.
   * @param {string} id
   */
  showBatch(id) {
    const field = this.form.elements.namedItem("batch_id");
    if (field instanceof HTMLInputElement) field.value = id;
    this.read();
    this.count.scrollIntoView({ block: "center" });
  }

  close() {
    fill(this.opened);
    this.table.querySelector("button")?.focus();
  }

  exportCsv() {
    download("apex-scores.csv", "text/csv", csv(this.jobs, meanings.names, nameOf));
  }

  exportJson() {
    download("apex-scores.json", "application/json", JSON.stringify(this.jobs, null, 2));
  }
}
