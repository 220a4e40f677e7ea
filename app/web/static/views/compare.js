/** Two or more tracks beside each other, and ranked by what the person says counts. */
import { compareJobs } from "../client/api.js";
import { inCode } from "../parts/code.js";
import { byId, fill, h, styled } from "../parts/dom.js";
import { scoreText } from "../parts/format.js";
import { problemNote } from "../parts/problem.js";
import { ofScore } from "../parts/scores.js";
import { isPopularity, label, meanings } from "../state/meaning.js";
import { selection } from "../state/selection.js";

/** @typedef {import("../client/api.js").Job} Job */
/** @typedef {import("../client/api.js").Comparison} Comparison */
/** @typedef {import("../state/track.js").Track} Track */

const MIN_TRACKS = 2;
const MAX_WEIGHT = 10;
const HEARD = ["play", "pause"];
/** The width of a dot, the share of the plot that its lines have, and where dots go that are too close. */
const DOT_PX = 27;
const LINE_SHARE = 0.6;
const LEVELS = [0, -1, 1];
const N_LEVELS = LEVELS.length;
/** @type {[string, (name: string) => boolean][]} */
const PRESETS = [
  ["Popularity", isPopularity],
  ["Aesthetics", (name) => !isPopularity(name)],
  ["All alike", () => true],
];

export class CompareView {
  constructor() {
    /** @type {Map<string, number>} */
    this.weights = new Map();
    this.plot = byId("compare-plot", HTMLElement);
    this.criterion = byId("criterion", HTMLElement);
    this.ranking = byId("ranking", HTMLElement);
    this.asked = 0;
    selection.addEventListener("change", () => this.show());
  }

  get tracks() {
    return [...selection.byJob.values()].map((track, n) => ({
      track,
      job: /** @type {Job} */ (track.job),
      mark: markOf(n),
      n,
    }));
  }

  show() {
    byId("compare-empty", HTMLElement).hidden = selection.size >= MIN_TRACKS;
    byId("compare-body", HTMLElement).hidden = selection.size < MIN_TRACKS;
    if (selection.size < MIN_TRACKS) return;
    fill(this.plot, this.legend(), this.dots(), this.numbers());
    this.showCriterion();
    this.rank();
  }

  get names() {
    const [first] = this.tracks;
    return Object.keys(first?.job.result?.scores ?? {});
  }

  legend() {
    return h(
      "ul",
      { class: "legend" },
      ...this.tracks.map(({ track, mark, n }) =>
        h("li", {}, dot(mark, n), h("span", {}, track.name), listenButton(track), this.leaveButton(track)),
      ),
    );
  }

  /** @param {Track} track */
  leaveButton(track) {
    const leave = () => {
      selection.choose(track, false);
      const next = this.plot.querySelector("button") ?? document.querySelector("#compare-empty a");
      if (next instanceof HTMLElement) next.focus();
    };
    const label = `Take ${track.name} out of the comparison`;
    return h("button", { type: "button", class: "plain small", "aria-label": label, click: leave }, "×");
  }

  /** A line for each score, a dot for each track. */
  dots() {
    const share = DOT_PX / (LINE_SHARE * Math.max(this.plot.clientWidth, DOT_PX));
    return h(
      "div",
      { class: "dot-plot", "aria-hidden": "true" },
      ...this.names.map((name) => {
        const [low = 0, high = 1] = meanings.range(name);
        return h(
          "div",
          { class: isPopularity(name) ? "dot-row popularity" : "dot-row" },
          h("span", { class: "dot-label" }, label(name)),
          h(
            "span",
            { class: "dot-line" },
            ...apart(
              this.tracks.map(({ job, mark, n }) => {
                const at = ((ofScore(job.result?.scores ?? {}, name) ?? low) - low) / (high - low);
                return { at, element: styled(dot(mark, n), { at }) };
              }),
              share,
            ),
          ),
          h("span", { class: "dot-range" }, `${low}–${high}`),
        );
      }),
    );
  }

  /** The same as a table. */
  numbers() {
    return h(
      "details",
      {},
      h("summary", {}, "The numbers"),
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scores of the compared tracks" },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "Track"),
              ...this.names.map((name) => h("th", { scope: "col" }, label(name))),
            ),
          ),
          h(
            "tbody",
            {},
            ...this.tracks.map(({ track, job, mark }) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, `${mark}  ${track.name}`),
                ...this.names.map((name) =>
                  h("td", {}, scoreText(ofScore(job.result?.scores ?? {}, name) ?? 0, meanings.range(name))),
                ),
              ),
            ),
          ),
        ),
      ),
    );
  }

  /** What makes a track better is the person's to say: there is no default. */
  showCriterion() {
    if (this.criterion.childElementCount > 0) return;
    fill(
      this.criterion,
      h(
        "div",
        { class: "presets" },
        ...PRESETS.map(([title, counts]) => h("button", { type: "button", click: () => this.preset(counts) }, title)),
      ),
      ...this.names.map((name) => this.slider(name)),
    );
  }

  /** @param {string} name */
  slider(name) {
    const shown = h("output", {}, "–");
    const input = h("input", {
      type: "range",
      min: 0,
      max: MAX_WEIGHT,
      value: 0,
      "data-score": name,
      input: () => {
        this.weights.set(name, Number(input.value));
        shown.textContent = input.value === "0" ? "–" : input.value;
        this.rank();
      },
    });
    return h("label", { class: "weight" }, h("span", {}, label(name)), input, shown);
  }

  /** @param {(name: string) => boolean} counts */
  preset(counts) {
    for (const input of this.criterion.querySelectorAll("input")) {
      input.value = counts(input.dataset.score ?? "") ? "5" : "0";
      input.dispatchEvent(new Event("input"));
    }
  }

  async rank() {
    const criterion = Object.fromEntries(
      [...this.weights].filter(([name, weight]) => weight > 0 && this.names.includes(name)),
    );
    this.asked += 1;
    const asked = this.asked;
    if (Object.keys(criterion).length === 0) {
      fill(this.ranking, h("p", { class: "quiet" }, "Say what counts: move a slider, or take one of the three."));
      return;
    }
    const jobIds = [...selection.byJob.keys()];
    const shown = await compareJobs(jobIds, criterion).then(
      (comparison) => this.ranked(comparison, { job_ids: jobIds, criterion }),
      (error) => [problemNote(error)],
    );
    if (asked === this.asked) fill(this.ranking, ...shown);
  }

  /**
   * @param {Comparison} comparison
   * @param {{ job_ids: string[], criterion: Record<string, number> }} sent
   */
  ranked(comparison, sent) {
    const byJob = new Map(this.tracks.map((entry) => [entry.job.id, entry]));
    return [
      h(
        "p",
        { class: "verdict" },
        verdict(comparison, (id) => byJob.get(id)?.track.name ?? id),
      ),
      h(
        "ol",
        { class: "ranks" },
        ...comparison.ranking.map(({ rank, job_id: id, value }) => {
          const entry = byJob.get(id);
          return h(
            "li",
            {},
            h("span", { class: "rank" }, String(rank)),
            entry ? dot(entry.mark, entry.n) : null,
            h("span", { class: "rank-name" }, entry?.track.name ?? id),
            styled(h("span", { class: "rank-bar", "aria-hidden": "true" }), { at: value }),
            h("span", { class: "rank-value" }, (value * 100).toFixed(1)),
          );
        }),
      ),
      h("p", { class: "quiet" }, comparison.basis),
      inCode(() => ({ method: "POST", path: "compare", json: sent })),
    ];
  }
}

/**
 * Who leads; nobody, within the band in which a difference is none.
 * @param {Comparison} comparison
 * @param {(jobId: string) => string} nameOf
 */
function verdict({ ranking, trained }, nameOf) {
  const first = ranking.filter(({ rank }) => rank === 1);
  const caution = trained ? "" : " These weights are untrained, so it means nothing.";
  if (first.length === ranking.length)
    return `Nobody leads: the difference is smaller than what another device would make.${caution}`;
  const names = first.map(({ job_id: id }) => nameOf(id));
  if (names.length === 1) return `${names[0]} leads.${caution}`;
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)} share the lead.${caution}`;
}

/**
 * Plays the track, and pauses it; null for one that cannot be heard here.
 * @param {Track} track
 */
function listenButton({ name, audio }) {
  if (!audio || audio.error) return null;
  const say = () => {
    button.textContent = audio.paused ? "▶" : "❚❚";
    button.setAttribute("aria-label", `${audio.paused ? "Listen to" : "Pause"} ${name}`);
  };
  const button = h("button", {
    type: "button",
    class: "plain small",
    click: () => (audio.paused ? audio.play() : audio.pause()),
  });
  const follow = () => {
    if (button.isConnected) say();
    else for (const event of HEARD) audio.removeEventListener(event, follow);
  };
  for (const event of HEARD) audio.addEventListener(event, follow);
  say();
  return button;
}

/**
 * Dots that would hide each other, one above the other.
 * @param {{ at: number, element: HTMLElement }[]} dots
 * @param {number} share of the line that a dot takes
 */
function apart(dots, share) {
  let [before, level] = [Number.NEGATIVE_INFINITY, 0];
  for (const { at, element } of dots.toSorted((a, b) => a.at - b.at)) {
    level = at - before < share ? (level + 1) % N_LEVELS : 0;
    before = at;
    styled(element, { level: LEVELS[level] ?? 0 });
  }
  return dots.map(({ element }) => element);
}

/** @param {number} n */
function markOf(n) {
  return n < 26 ? String.fromCharCode(65 + n) : String(n + 1);
}

/**
 * A track's mark: its letter says what its colour says.
 * @param {string} mark
 * @param {number} n
 */
function dot(mark, n) {
  return h("span", { class: "dot", "data-color": n % 6 }, mark);
}
