/** Drop tracks; each becomes a card. */

import { TrackCard } from "../parts/card.js";
import { announce, byId, fill, h } from "../parts/dom.js";
import { counted } from "../parts/format.js";
import { selection } from "../state/selection.js";
import { Track } from "../state/track.js";

export class ScoreView {
  constructor() {
    /** @type {Set<TrackCard>} */
    this.cards = new Set();
    this.list = byId("tracks", HTMLElement);
    this.tally = byId("tally", HTMLElement);
    this.tallyText = byId("tally-text", HTMLElement);
    this.input = byId("files", HTMLInputElement);
    this.zone = byId("drop", HTMLElement);
    this.sendNames = byId("send-names", HTMLInputElement);
    this.input.addEventListener("change", () => {
      this.add([...(this.input.files ?? [])]);
      this.input.value = "";
    });
    this.takeDrops();
    document.addEventListener("paste", (event) => this.add([...(event.clipboardData?.files ?? [])]));
    byId("compare-all", HTMLButtonElement).addEventListener("click", () => this.compareAll());
    byId("cancel-all", HTMLButtonElement).addEventListener("click", () => this.cancelAll());
    addEventListener("beforeunload", (event) => this.isSending && event.preventDefault());
  }

  /** It is always as it was left. */
  show() {}

  get tracks() {
    return [...this.cards].map((card) => card.track);
  }

  /** Whether a file would be lost if the page were left now. What was accepted is in History. */
  get isSending() {
    return this.tracks.some((track) => !track.done && track.job === null);
  }

  /** Files may be dropped anywhere on the page. */
  takeDrops() {
    const over = (/** @type {DragEvent} */ event, /** @type {boolean} */ is) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      this.zone.classList.toggle("over", is);
    };
    document.addEventListener("dragover", (event) => over(event, true));
    document.addEventListener("dragleave", (event) => over(event, event.relatedTarget !== null));
    document.addEventListener("drop", (event) => {
      over(event, false);
      this.add([...(event.dataTransfer?.files ?? [])]);
    });
  }

  /** @param {File[]} files */
  add(files) {
    if (files.length === 0) return;
    location.hash = "#score";
    const sendName = this.sendNames.checked;
    const cards = files.map((file) => new TrackCard(new Track({ file, sendName }), (removed) => this.remove(removed)));
    for (const card of cards) {
      this.cards.add(card);
      card.track.addEventListener("change", () => this.count());
    }
    this.list.prepend(...cards.map((card) => card.element));
    this.count();
    announce(`${counted(files.length, "track")} added`);
    for (const card of cards) card.track.score();
  }

  /** Say how far several tracks are together. */
  count() {
    const { tracks } = this;
    const n = (/** @type {string} */ phase) => tracks.filter((track) => track.phase === phase).length;
    const others = ["failed", "canceled"].filter((phase) => n(phase) > 0).map((phase) => `, ${n(phase)} ${phase}`);
    document.body.classList.toggle("has-tracks", tracks.length > 0);
    this.tally.hidden = tracks.length < 2;
    fill(this.tallyText, h("b", {}, `${n("succeeded")} of ${tracks.length} scored`), others.join(""));
    byId("compare-all", HTMLButtonElement).hidden = n("succeeded") < 2;
    byId("cancel-all", HTMLButtonElement).hidden = tracks.every((track) => track.done);
  }

  compareAll() {
    for (const card of this.cards) card.choose();
    location.hash = "#compare";
  }

  cancelAll() {
    const unfinished = this.tracks.filter((track) => !track.done && !track.cancelRequested);
    announce(`Canceling ${counted(unfinished.length, "track")}`);
    for (const track of unfinished) track.cancel();
  }

  /** @param {TrackCard} card */
  remove(card) {
    const beside = card.element.nextElementSibling ?? card.element.previousElementSibling;
    card.dispose();
    this.cards.delete(card);
    selection.choose(card.track, false);
    this.count();
    const next = beside?.querySelector("h2") ?? this.input;
    if (next instanceof HTMLElement) next.focus();
  }
}
