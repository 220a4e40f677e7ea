/** A track that a person chose, or opened: its file, its job, and what is known of them. */
import { cancelJob } from "../client/api.js";
import { follow } from "../client/follow.js";
import { Problem } from "../client/problem.js";
import { submit } from "../client/upload.js";
import { size } from "../parts/format.js";
import { meanings } from "./meaning.js";
import { nameOf, rememberName } from "./names.js";

/** @typedef {import("../client/api.js").Job} Job */
/** @typedef {import("#api").components["schemas"]["ProgressEvent"]} ProgressEvent */
/** @typedef {"waiting" | "uploading" | Job["status"]} Phase */

const MAX_NAME_CHARS = 128;

/** Tells its listeners of each change by the event `change`. */
export class Track extends EventTarget {
  /**
   * @param {{ file?: File | null, job?: Job | null, sendName?: boolean }} from
   */
  constructor({ file = null, job = null, sendName = false }) {
    super();
    this.file = file;
    this.job = job;
    this.sendName = sendName;
    /** @type {Phase} */
    this.phase = job?.status ?? "waiting";
    /** @type {unknown} */
    this.problem = job?.error ? new Problem(job.error) : null;
    /** @type {Problem | null} what keeps it from going on for now */
    this.trouble = null;
    this.sent = 0;
    /** @type {number | null} */
    this.etaS = null;
    this.cancelRequested = false;
    /** @type {HTMLAudioElement | null} where it can be heard */
    this.audio = null;
    this.aborter = new AbortController();
  }

  get name() {
    return this.file?.name ?? (this.job ? nameOf(this.job) : "");
  }

  get done() {
    return ["succeeded", "failed", "canceled"].includes(this.phase);
  }

  /** @returns {Record<string, string>} */
  get fields() {
    const name = this.sendName && this.file ? { external_id: this.file.name.slice(0, MAX_NAME_CHARS) } : {};
    return { ...OPTIONS, ...name };
  }

  /** Send it, and follow its job to the end. */
  async score() {
    try {
      checkSize(this.file);
      this.take(await this.upload());
      await this.follow();
    } catch (error) {
      if (!this.aborter.signal.aborted) this.change({ phase: "failed", problem: error, trouble: null });
    }
  }

  async follow() {
    const { job } = this;
    if (!job || job.done) return;
    await follow(job, {
      signal: this.aborter.signal,
      onJob: (newer) => this.take(newer),
      onProgress: (progress) => this.advance(progress),
      onTrouble: (trouble) => this.change({ trouble }),
    });
  }

  /** Stop it: the upload at once, the job before its next segment. */
  async cancel() {
    if (this.job === null) {
      this.aborter.abort();
      this.change({ phase: "canceled", trouble: null });
      return;
    }
    this.change({ cancelRequested: true });
    try {
      this.take(await cancelJob(this.job.id));
    } catch (error) {
      this.change({ cancelRequested: false, trouble: error instanceof Problem ? error : null });
    }
  }

  upload() {
    return submit({
      file: /** @type {File} */ (this.file),
      fields: this.fields,
      signal: this.aborter.signal,
      onProgress: (sent) => this.change({ phase: "uploading", sent, trouble: null }),
      onRetry: (trouble) => this.change({ phase: "waiting", sent: 0, trouble }),
    });
  }

  /** @param {Job} job */
  take(job) {
    if (this.done) return;
    if (this.file) rememberName(job.id, this.file.name);
    const problem = job.error ? new Problem(job.error) : null;
    this.change({ job, phase: job.status, problem, trouble: null });
  }

  /** @param {ProgressEvent} progress */
  advance(progress) {
    if (this.job)
      this.change({ job: { ...this.job, status: "running", progress }, phase: "running", etaS: progress.eta_s });
  }

  /** @param {Partial<Track>} changed */
  change(changed) {
    Object.assign(this, changed);
    this.dispatchEvent(new Event("change"));
  }
}

/** Options of every job that the page makes. */
/** @type {Readonly<Record<string, string>>} */
const OPTIONS = { segments: "true" };

/**
 * Raise what the service would answer to a file that is too large, without sending it.
 * @param {File | null} file
 */
function checkSize(file) {
  const limit = meanings.card?.inputs.max_bytes ?? Number.POSITIVE_INFINITY;
  if (file && file.size > limit) {
    throw new Problem({
      code: "payload_too_large",
      title: "The file is larger than this server accepts",
      detail: `It has ${size(file.size)}; the limit is ${size(limit)}. It was not sent.`,
      retryable: false,
    });
  }
}
