/** Listen and see: the waveform, the browser's own player, and the 30 s of each segment under it. */
import { fill, h } from "./dom.js";
import { duration } from "./format.js";
import { segmentChart } from "./segments.js";
import { drawWaveform, waveform } from "./waveform.js";

/** @typedef {import("../state/track.js").Track} Track */

const STEP_S = 5;
const LEAP_S = 30;
/** What each key does to the position. */
/** @type {Readonly<Record<string, (at: number, end: number) => number>>} */
const KEYS = {
  ArrowRight: (at) => at + STEP_S,
  ArrowUp: (at) => at + STEP_S,
  ArrowLeft: (at) => at - STEP_S,
  ArrowDown: (at) => at - STEP_S,
  PageUp: (at) => at + LEAP_S,
  PageDown: (at) => at - LEAP_S,
  Home: () => 0,
  End: (_, end) => end,
};

/** Pause what is heard when another track is played. */
export function hearOneAtATime() {
  const pauseOthers = (/** @type {Event} */ event) => {
    for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
  };
  document.addEventListener("play", pauseOthers, { capture: true });
}

/** The player of one track with a file. `element` is empty for a format that the browser cannot play. */
export class Player {
  /** @param {Track} track */
  constructor(track) {
    this.file = /** @type {File} */ (track.file);
    this.url = URL.createObjectURL(this.file);
    this.canvas = h("canvas", { class: "wave-canvas", "aria-hidden": "true" });
    this.audio = h("audio", {
      controls: true, preload: "metadata", src: this.url, "aria-label": `Listen to ${track.name}`,
      timeupdate: () => this.show(), seeked: () => this.show(), loadedmetadata: () => this.show(),
      error: () => this.refuse(),
    }); // biome-ignore format: pairs of attributes
    track.audio = this.audio;
    this.slider = h(
      "div",
      {
        class: "wave",
        role: "slider",
        tabindex: 0,
        "aria-label": `Position in ${track.name}`,
        "aria-valuemin": 0,
        "aria-valuemax": 0,
        "aria-valuenow": 0,
        "aria-valuetext": "0:00",
        pointerdown: (/** @type {PointerEvent} */ event) => this.point(event),
        pointermove: (/** @type {PointerEvent} */ event) => event.buttons === 1 && this.point(event),
        keydown: (/** @type {KeyboardEvent} */ event) => this.press(event),
      },
      this.canvas,
    );
    this.segments = h("div", { class: "segments" });
    this.controls = h("div", { class: "segments" });
    this.element = h("div", { class: "player" }, this.slider, this.segments, this.audio, this.controls);
    /** @type {Float32Array | null} */
    this.peaks = null;
    this.colours = matchMedia("(prefers-color-scheme: dark)");
    this.colours.addEventListener("change", this);
    this.redrawing = new ResizeObserver(() => this.show());
    this.decodeWhenSeen();
  }

  /** Draw anew where the colours have changed. */
  handleEvent() {
    this.show();
  }

  /** Decode once a person can see it: not what is far down a long list. */
  decodeWhenSeen() {
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      this.decode();
    });
    seen.observe(this.slider);
  }

  async decode() {
    try {
      this.peaks = (await waveform(this.file)).peaks;
      this.slider.classList.add("ready");
      this.redrawing.observe(this.slider);
    } catch {
      this.refuse();
    }
    this.show();
  }

  get durationS() {
    return Number.isFinite(this.audio.duration) ? this.audio.duration : 0;
  }

  /** @param {import("../client/api.js").Job} job */
  showSegments(job) {
    const chart = segmentChart(job, (at) => this.seek(at));
    fill(this.segments, chart?.plot ?? null);
    fill(this.controls, chart?.controls ?? null);
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.audio.currentTime = Math.min(Math.max(seconds, 0), this.durationS);
    this.show();
  }

  /** @param {PointerEvent} event */
  point(event) {
    const box = this.slider.getBoundingClientRect();
    this.seek(((event.clientX - box.left) / box.width) * this.durationS);
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    const move = KEYS[event.key];
    if (event.key === " ") this.audio.paused ? this.audio.play() : this.audio.pause();
    else if (move) this.seek(move(this.audio.currentTime, this.durationS));
    else return;
    event.preventDefault();
  }

  show() {
    const [at, end] = [this.audio.currentTime, this.durationS];
    this.slider.setAttribute("aria-valuemax", end.toFixed(1));
    this.slider.setAttribute("aria-valuenow", at.toFixed(1));
    this.slider.setAttribute("aria-valuetext", `${duration(at)} of ${duration(end)}`);
    if (this.peaks) drawWaveform(this.canvas, this.peaks, end ? at / end : 0);
  }

  /** The scores are the service's, which knows more formats than a browser. */
  refuse() {
    if (!this.slider.isConnected && !this.audio.isConnected) return;
    this.slider.remove();
    this.audio.remove();
    this.element.prepend(
      h("p", { class: "quiet unplayable" }, "This browser cannot play this file. Its scores are not affected."),
    );
  }

  dispose() {
    this.audio.pause();
    this.colours.removeEventListener("change", this);
    this.redrawing.disconnect();
    URL.revokeObjectURL(this.url);
  }
}
