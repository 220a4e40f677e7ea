/** Drop tracks; each becomes a card. */

import { TrackCard } from "../parts/card.js";
import { announce, byId } from "../parts/dom.js";
import { counted } from "../parts/format.js";
import { selection } from "../state/selection.js";
import { Track } from "../state/track.js";

export class ScoreView {
  constructor() {
    this.list = byId("tracks", HTMLElement);
    this.input = byId("files", HTMLInputElement);
    this.zone = byId("drop", HTMLElement);
    this.sendNames = byId("send-names", HTMLInputElement);
    this.input.addEventListener("change", () => {
      this.add([...(this.input.files ?? [])]);
      this.input.value = "";
    });
    this.takeDrops();
    document.addEventListener("paste", (event) => this.add([...(event.clipboardData?.files ?? [])]));
  }

  /** It is always as it was left. */
  show() {}

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
    this.list.prepend(...cards.map((card) => card.element));
    document.body.classList.add("has-tracks");
    announce(`${counted(files.length, "track")} added`);
    for (const card of cards) card.track.score();
  }

  /** @param {TrackCard} card */
  remove(card) {
    const beside = card.element.nextElementSibling ?? card.element.previousElementSibling;
    card.dispose();
    selection.choose(card.track, false);
    document.body.classList.toggle("has-tracks", this.list.childElementCount > 0);
    const next = beside?.querySelector("h3") ?? this.input;
    if (next instanceof HTMLElement) next.focus();
  }
}
