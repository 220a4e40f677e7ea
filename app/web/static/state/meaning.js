/** What the scores are called and mean, from `GET /model`. */

import { readModel } from "../client/api.js";

/** @typedef {import("../client/api.js").ModelCard} ModelCard */
/** @typedef {keyof import("#api").components["schemas"]["Scores"]} ScoreName */
/** @typedef {readonly number[]} Range */

/** @type {ReadonlyMap<string, string>} */
const LABELS = new Map([
  ["score_streams", "Plays"],
  ["score_likes", "Likes"],
]);
/** Apart from the others: what a track may become, not how it sounds. */
export const POPULARITY = ["score_streams", "score_likes"];
/** By how many points the published model's popularity is off (root mean square), as `GET /model` says. */
export const POPULARITY_ERROR = 20;

/** @param {string} name */
export function label(name) {
  return LABELS.get(name) ?? name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
}

/** @param {string} name */
export function isPopularity(name) {
  return POPULARITY.includes(name);
}

/** The model card, once it is read. */
export class Meanings {
  constructor() {
    /** @type {ModelCard | null} */
    this.card = null;
  }

  async read() {
    this.card = await readModel();
    return this.card;
  }

  /** @param {string} name */
  sentence(name) {
    return this.card?.scores[/** @type {ScoreName} */ (name)]?.meaning ?? "";
  }

  /** Every score of the model family, popularity first. */
  get names() {
    return this.card ? Object.keys(this.card.scores) : [];
  }

  /**
   * @param {string} name
   * @returns {Range}
   */
  range(name) {
    return this.card?.scores[/** @type {ScoreName} */ (name)]?.range ?? (isPopularity(name) ? [0, 100] : [1, 5]);
  }
}

export const meanings = new Meanings();
