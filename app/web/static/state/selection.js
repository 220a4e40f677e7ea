/** The tracks that are chosen for a comparison. Tells its listeners of each change by the event `change`. */

/** @typedef {import("./track.js").Track} Track */

class Selection extends EventTarget {
  constructor() {
    super();
    /** @type {Map<string, Track>} by the id of the job */
    this.byJob = new Map();
  }

  get size() {
    return this.byJob.size;
  }

  /** @param {Track} track */
  has(track) {
    return this.byJob.has(track.job?.id ?? "");
  }

  /**
   * @param {Track} track
   * @param {boolean} isChosen
   */
  choose(track, isChosen) {
    if (!track.job) return;
    if (isChosen) this.byJob.set(track.job.id, track);
    else this.byJob.delete(track.job.id);
    this.dispatchEvent(new Event("change"));
  }
}

export const selection = new Selection();
