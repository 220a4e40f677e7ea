/** What can go wrong, by what a caller can do about it. */

import type { Job, Problem } from "./types.js";

/** Statuses that pass, where an answer is not the service's own: a proxy's, say. */
const PASSING = [429, 502, 503, 504];

/** Base of every error of this package. */
export class ApexError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** No answer came, after every retry. The request may have been carried out: repeat it with its idempotency key. */
export class ConnectionFailed extends ApexError {}

/** The service refused the request. Decide by `code`, whose meaning never changes; "" for an answer of a proxy. */
export class ApiError extends ApexError {
  readonly status: number;
  readonly code: string;
  readonly retryable: boolean;
  readonly requestId: string | null;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    response: Response,
    readonly problem: Partial<Problem>,
  ) {
    super(`${response.status} ${problem.code ?? ""}: ${problem.detail ?? response.statusText}`);
    this.status = response.status;
    this.code = problem.code ?? "";
    this.retryable = problem.retryable ?? PASSING.includes(response.status);
    this.requestId = response.headers.get("x-request-id");
    this.retryAfterSeconds = retryAfterSeconds(response);
  }

  static async of(response: Response): Promise<ApiError> {
    const body: unknown = await response.json().catch(() => null);
    return new ApiError(response, typeof body === "object" && body !== null ? body : {});
  }
}

/** The job failed or was canceled; `job.error` says why it failed. */
export class JobFailed extends ApexError {
  constructor(readonly job: Job) {
    super(`${job.id}: ${job.error ? `${job.error.code}: ${job.error.detail}` : job.status}`);
  }
}

/** The job was not over in time. It goes on: wait for it again, or cancel it. */
export class WaitTimeout extends ApexError {
  constructor(readonly job: Job) {
    super(`${job.id} is ${job.status}`);
  }
}

/** The seconds in `Retry-After`, which the service gives as a number. */
export function retryAfterSeconds(response: Response): number | undefined {
  const value = response.headers.get("retry-after") ?? "";
  return /^\d+$/.test(value) ? Number(value) : undefined;
}
