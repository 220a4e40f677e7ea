/** @typedef {Partial<import("#api").components["schemas"]["Problem"]>} ProblemBody */

/** An error of the service (RFC 9457), or of the way to it, where `status` is 0. */
export class Problem extends Error {
  /**
   * @param {ProblemBody} body
   * @param {number | null} [retryAfterS]
   */
  constructor(body, retryAfterS = null) {
    super(body.detail ?? body.title ?? "Something went wrong.");
    this.body = body;
    this.status = body.status ?? 0;
    this.code = body.code ?? "";
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may work later. */
  get retryable() {
    return this.body.retryable ?? true;
  }
}

/**
 * The problem that an answer shows, whatever stands between the page and the service made of it.
 * @param {number} status
 * @param {string} text
 * @param {string | null} retryAfter
 */
export function problemOf(status, text, retryAfter) {
  const seconds = Number.parseFloat(retryAfter ?? "");
  return new Problem({ status, ...parsed(text, status) }, Number.isFinite(seconds) ? seconds : null);
}

/** The service could not be reached. */
export function unreachable() {
  return new Problem({ title: "The service cannot be reached", detail: "The connection was lost.", retryable: true });
}

/**
 * @param {string} text
 * @param {number} status
 * @returns {ProblemBody}
 */
function parsed(text, status) {
  try {
    const body = JSON.parse(text);
    if (body && typeof body.title === "string") return body;
  } catch {
    // Not from the service: a proxy has pages of its own.
  }
  return { title: `The answer was ${status}`, detail: "", retryable: status >= 500 || status === 429 };
}
