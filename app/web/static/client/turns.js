/** Lets a few things happen at a time, in the order in which they asked. */
export class Turns {
  /** @param {number} limit */
  constructor(limit) {
    this.free = limit;
    /** @type {(() => void)[]} */
    this.waiting = [];
  }

  /**
   * Run it when it is its turn.
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  async run(work) {
    if (!this.take()) await new Promise((/** @type {(value: void) => void} */ resolve) => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      this.give();
    }
  }

  /** Whether there was room. What took some gives it back. */
  take() {
    if (this.free === 0) return false;
    this.free -= 1;
    return true;
  }

  give() {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}

/**
 * Wait; not longer than the signal lets it.
 * @param {number} seconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * How long to wait before another try.
 * @param {number} failures in a row
 */
export function backoffS(failures) {
  return Math.min(2 ** (failures - 1), 15);
}
