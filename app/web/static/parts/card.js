/** The card of a track: from its upload to its scores. */

import { Problem } from "../client/problem.js";
import { label } from "../state/meaning.js";
import { selection } from "../state/selection.js";
import { choiceBox } from "./choice.js";
import { inCode } from "./code.js";
import { otherKeyButton } from "./dialog.js";
import { announce, fill, h, styled } from "./dom.js";
import { counted, duration, moment, roughly, size } from "./format.js";
import { Player } from "./player.js";
import { problemNote } from "./problem.js";
import { ofScore, scoreboard } from "./scores.js";
import { segmentChart } from "./segments.js";

/** @typedef {import("../state/track.js").Track} Track */
/** @typedef {import("../client/api.js").Job} Job */

const CHANNELS = ["", "mono", "stereo"];
/** What is said of a track when it gets so far. Every place in the queue would be too much. */
/** @type {Readonly<Record<string, string>>} */
const SPOKEN_PHASES = { queued: "in the queue", running: "being scored" };

/** Shows a track, and what becomes of it. */
export class TrackCard {
  /**
   * @param {Track} track
   * @param {(card: TrackCard) => void} onRemove what its button does
   */
  constructor(track, onRemove) {
    this.track = track;
    this.onRemove = onRemove;
    this.title = h("h2", { tabindex: -1 }, track.name);
    this.meta = h("p", { class: "meta" });
    this.stage = h("p", { class: "stage" });
    this.meter = h("div", { class: "progress", role: "progressbar", "aria-label": `Progress of ${track.name}` });
    this.trouble = h("div", {});
    this.state = h("div", { class: "state" });
    this.buttons = h("div", { class: "buttons" });
    this.cancelButton = h(
      "button",
      { type: "button", class: "plain", "aria-label": `Cancel ${track.name}`, click: () => this.cancel() },
      "Cancel",
    );
    this.result = h("div", { class: "result" });
    this.player = track.file ? new Player(track) : null;
    this.element = h(
      "article",
      { class: "card" },
      h("header", {}, h("div", { class: "naming" }, this.title, this.meta), this.buttons),
      this.state,
      this.player?.element ?? null,
      this.result,
    );
    this.shown = "";
    this.canceledHere = false;
    track.addEventListener("change", () => this.show());
    this.show();
  }

  show() {
    const { track } = this;
    this.element.dataset.phase = track.phase;
    this.meta.textContent = facts(track).join(" · ");
    if (track.done) this.showEnd();
    else this.showProgress();
  }

  showProgress() {
    const { track } = this;
    const [text, ratio] = stage(track);
    if (this.shown === "") {
      fill(this.buttons, this.cancelButton);
      fill(this.state, this.stage, this.meter, this.trouble);
    }
    this.cancelButton.disabled = track.cancelRequested;
    this.stage.textContent = text;
    showRatio(this.meter, ratio, text);
    fill(this.trouble, trouble(track));
    const spokenPhase = SPOKEN_PHASES[track.phase];
    if (spokenPhase && this.shown !== track.phase) announce(`${track.name}: ${spokenPhase}`);
    this.shown = track.phase;
  }

  showEnd() {
    const { track } = this;
    if (this.shown === "end") return;
    const hadFocus =
      this.canceledHere && [this.cancelButton, document.body, null].some((each) => each === document.activeElement);
    this.shown = "end";
    fill(this.state);
    fill(this.buttons, ...this.endButtons());
    fill(this.result, ...this.endParts());
    if (track.job) this.player?.showSegments(track.job);
    if (hadFocus) this.title.focus();
    announce(`${track.name}: ${spoken(track)}`);
  }

  /** @returns {import("./dom.js").Child[]} */
  endParts() {
    const { track } = this;
    if (track.phase === "failed") return [problemNote(track.problem, { action: this.retryButton() })];
    if (track.phase === "canceled") return [h("p", { class: "quiet" }, cancelReason(track.job))];
    const job = /** @type {Job} */ (track.job);
    const chart = this.player ? null : segmentChart(job, null);
    return [
      scoreboard(job),
      warnings(job),
      chart && h("div", { class: "player" }, chart.plot, chart.controls),
      provenance(job),
      this.code(job),
    ];
  }

  /** @param {Job} job */
  code(job) {
    const { track } = this;
    const call = track.file
      ? /** @type {const} */ ({
          method: "POST",
          path: "score",
          fields: track.fields,
          file: track.file.name,
          waits: true,
        })
      : /** @type {const} */ ({ method: "GET", path: `jobs/${job.id}` });
    return inCode(() => call);
  }

  /** Take it into the comparison, if it has scores. */
  choose() {
    if (this.track.phase === "succeeded") selection.choose(this.track, true);
  }

  endButtons() {
    const { track } = this;
    const scored = track.phase === "succeeded";
    return [
      scored ? h("label", { class: "choose" }, choiceBox(track), "Compare") : null,
      scored
        ? h(
            "button",
            { type: "button", class: "plain", "aria-label": `Print ${track.name}`, click: () => this.print() },
            "Print",
          )
        : null,
      h(
        "button",
        { type: "button", class: "plain", click: () => this.onRemove(this), "aria-label": `Remove ${track.name}` },
        "Remove",
      ),
    ];
  }

  /** Sends the track again, with another key where that is what was wrong. None where it would only be refused again. */
  retryButton() {
    const { track } = this;
    if (!track.file) return null;
    const again = () => {
      this.shown = "";
      fill(this.result);
      track.change({ phase: "waiting", problem: null, job: null, sent: 0 });
      track.score();
      this.cancelButton.focus();
    };
    if (isHopeless(track.problem)) return otherKeyButton(track.problem, again);
    return h("button", { type: "button", click: again }, "Try again");
  }

  cancel() {
    this.canceledHere = true;
    this.track.cancel();
    announce(`${this.track.name}: canceling`);
  }

  print() {
    for (const printed of document.querySelectorAll(".printed")) printed.classList.remove("printed");
    this.element.classList.add("printed");
    window.print();
  }

  dispose() {
    this.player?.dispose();
    this.element.remove();
  }
}

/** @param {unknown} problem */
function isHopeless(problem) {
  return problem instanceof Problem && !problem.retryable;
}

/**
 * Show how far something is, 0 to 1; null: nobody knows.
 * @param {HTMLElement} meter
 * @param {number | null} ratio
 * @param {string} text
 */
function showRatio(meter, ratio, text) {
  meter.classList.toggle("waiting", ratio === null);
  meter.setAttribute("aria-valuetext", text);
  if (ratio === null) meter.removeAttribute("aria-valuenow");
  else meter.setAttribute("aria-valuenow", String(Math.round(ratio * 100)));
  styled(meter, { done: ratio ?? 0 });
}

/**
 * What is known of the file.
 * @param {Track} track
 */
function facts({ file, job }) {
  const audio = job?.audio;
  return [
    audio?.duration_s ? duration(audio.duration_s) : null,
    audio?.container ? audio.container.toUpperCase() : null,
    audio?.sample_rate_hz ? `${audio.sample_rate_hz / 1000} kHz` : null,
    audio?.channels ? (CHANNELS[audio.channels] ?? `${audio.channels} channels`) : null,
    file ? size(file.size) : null,
    !file && job ? moment(job.created_at) : null,
  ].filter((fact) => fact !== null);
}

/**
 * Where a track is on its way, in words, and how far, 0 to 1.
 * @param {Track} track
 * @returns {[string, number | null]}
 */
function stage(track) {
  if (track.cancelRequested) return ["Canceling: it stops before its next segment", null];
  if (track.phase === "waiting") return ["Waiting to be sent", null];
  if (track.job?.progress.stage === "fetching") return ["Fetching the audio from its address", null];
  if (track.phase === "uploading")
    return [track.sent < 1 ? `Uploading, ${Math.floor(track.sent * 100)} %` : "Uploaded; being stored", track.sent];
  if (track.phase === "queued") return [queued(/** @type {Job} */ (track.job)), null];
  return running(track);
}

/** @param {Job} job */
function queued({ queue, status_reason: reason }) {
  if (reason === "waiting_for_model") return "In the queue, waiting for a worker of its model";
  if (!queue) return "In the queue";
  const startS = queue.estimated_start_at ? (Date.parse(queue.estimated_start_at) - Date.now()) / 1000 : null;
  const place = queue.position === 1 ? "Next in the queue" : `Number ${queue.position} in the queue`;
  if (startS === null) return place;
  if (startS > 1) return `${place}, starts in ${roughly(startS)}`;
  return queue.position === 1 ? `${place}, starts now` : `${place}, starts soon`;
}

/**
 * @param {Track} track
 * @returns {[string, number | null]}
 */
function running({ job, etaS }) {
  const progress = job?.progress;
  if (!progress?.segments_total) return ["Decoding", null];
  const left = etaS && etaS > 1 ? `, ${roughly(etaS)} left` : "";
  return [`Scored ${progress.segments_done} of ${counted(progress.segments_total, "segment")}${left}`, progress.ratio];
}

/** @param {Track} track */
function trouble({ trouble }) {
  if (!trouble) return null;
  const { body, retryAfterS } = trouble;
  const when = retryAfterS && retryAfterS > 1 ? ` in ${roughly(retryAfterS)}` : "";
  return h("p", { class: "trouble" }, `${body.title ?? "Trouble"}. `, h("span", {}, `Trying again${when}.`));
}

/** @param {Track} track */
function spoken({ phase, job, problem }) {
  if (phase === "canceled") return "canceled";
  if (phase === "failed") return `failed. ${problem instanceof Error ? problem.message : ""}`;
  const [first] = Object.keys(job?.result?.scores ?? {});
  return first ? `scored. ${label(first)} ${Math.round(ofScore(job?.result?.scores ?? {}, first) ?? 0)}` : "scored";
}

/** @param {Job | null} job */
function cancelReason(job) {
  if (job?.status_reason === "deadline_exceeded") return "Canceled: its deadline passed.";
  return job ? "Canceled." : "Canceled before it was sent.";
}

/** @param {Job} job */
function warnings(job) {
  const found = job.result?.warnings ?? [];
  if (found.length === 0) return null;
  return h(
    "section",
    { class: "warnings" },
    h("h3", {}, "About the file"),
    h("ul", {}, ...found.map(({ detail }) => h("li", {}, detail))),
  );
}

/**
 * Which weights gave the scores, and whether these had learned anything.
 * @param {Job} job
 */
function provenance(job) {
  const { model } = job;
  if (!model) return null;
  return h(
    "p",
    { class: "provenance" },
    model.trained ? null : h("strong", {}, "Untrained stand-in: these numbers mean nothing. "),
    `${model.name} ${model.version}`,
    job.livemode ? "" : " · made with a test key, not by the model",
    job.cached ? " · scored before, from the same bytes" : "",
    job.timings.total_s ? ` · ${job.timings.total_s.toFixed(1)} s in all` : "",
    " · ",
    h("a", { href: `#job=${encodeURIComponent(job.id)}` }, "Link to this result"),
  );
}
