import { ENDS, readEvents, readLines } from "./streams.js";
import { ApexError, ApiError, ConnectionFailed, JobFailed, retryAfterSeconds, WaitTimeout } from "./errors.js";
import type {
  Batch,
  BatchFilters,
  BatchItem,
  BatchOptions,
  Comparison,
  Delivery,
  Embedding,
  Job,
  JobFilters,
  ModelCard,
  ScoredJob,
  Sending,
  StreamEvent,
  TrackOptions,
  Usage,
} from "./types.js";

/** What one request waits at most; below what proxies commonly allow. */
const LONGEST_WAIT_S = 20;
const IDLE_S = 60;
const PAGE = 100;
const FIRST_PAUSE_S = 0.5;
const LONGEST_PAUSE_S = 60;

export interface ClientOptions {
  apiKey?: string;
  /** How often a request is repeated that fails for a reason that may pass. */
  maxRetries?: number;
  /** What sends instead of the global `fetch`. */
  fetch?: typeof fetch;
}

type Writer = (fields: object) => { headers: Record<string, string>; body: string | FormData };
type Query = Record<string, string | number | string[]>;

interface Request {
  query?: Query;
  headers?: Record<string, string>;
  body?: string | FormData;
  waitSeconds?: number;
  /** The body is read part by part, and may take as long as it likes. */
  stream?: boolean;
}

/** A service at `url`, as the holder of the key sees it. Methods throw `ApiError` or `ConnectionFailed`, and what they name. */
export class ApexClient {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #maxRetries: number;
  readonly #fetch: typeof fetch;

  constructor(url: string, options: ClientOptions = {}) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = options.apiKey ? { Authorization: `Bearer ${options.apiKey}` } : {};
    this.#maxRetries = options.maxRetries ?? 5;
    this.#fetch = options.fetch ?? ((...request) => fetch(...request));
  }

  /** Send a track; its job, finished already if its scores are known, or come within `waitSeconds`. */
  async score(track: Blob | URL, options: TrackOptions = {}, waitSeconds = 0): Promise<Job> {
    if (track instanceof URL) return this.#submit("/score/url", asJson(track), options, waitSeconds);
    return this.#submit("/score", asForm("file", [track]), options, waitSeconds);
  }

  /** Send a track, and wait for its scores. Throws `JobFailed` or `WaitTimeout`. */
  async scoreAndWait(track: Blob | URL, options: TrackOptions = {}, timeoutSeconds = 600): Promise<ScoredJob> {
    const deadline = now() + timeoutSeconds;
    const job = await this.score(track, options, Math.min(LONGEST_WAIT_S, timeoutSeconds));
    return this.#scored(job, deadline);
  }

  /** Wait for the scores of a job. Throws `JobFailed` or `WaitTimeout`. */
  async wait(jobId: string, timeoutSeconds = 600): Promise<ScoredJob> {
    const deadline = now() + timeoutSeconds;
    return this.#scored(await this.job(jobId), deadline);
  }

  /** Read a job, once it is over or after `waitSeconds`. */
  async job(jobId: string, waitSeconds = 0): Promise<Job> {
    const query: Record<string, number> = waitSeconds >= 1 ? { wait: Math.floor(waitSeconds) } : {};
    return this.#json("GET", `/jobs/${idOf(jobId)}`, { query, waitSeconds });
  }

  /** List jobs, newest first, reading them page by page. */
  jobs(filters: JobFilters = {}): AsyncGenerator<Job> {
    return this.#items("/jobs", filters);
  }

  /** Follow a job to its end, over connections that break: all events, or those after `lastEventId`. */
  events(jobId: string, lastEventId?: string): AsyncGenerator<StreamEvent> {
    return this.#events(`/jobs/${idOf(jobId)}`, lastEventId);
  }

  /** Read all jobs that pass the filters in one answer. Throws `ConnectionFailed` where it is cut off. */
  results(filters: JobFilters = {}): AsyncGenerator<Job> {
    return this.#results("", filters);
  }

  /** The same as a table in CSV, in parts as they come. */
  resultsCsv(filters: JobFilters = {}): AsyncGenerator<string> {
    return this.#csv("", filters);
  }

  /** Read what came of telling a job's `webhook_url` how it ended. */
  async deliveries(jobId: string): Promise<Delivery[]> {
    return this.#deliveries(`/jobs/${idOf(jobId)}`);
  }

  /** Tell a job's end again, whatever came of it before. */
  async redeliver(jobId: string, deliveryId: string): Promise<Delivery> {
    return this.#json("POST", `/jobs/${idOf(jobId)}/deliveries/${idOf(deliveryId)}/redeliver`);
  }

  /** Stop a job: one that waits at once, one that runs before its next segment. */
  async cancel(jobId: string): Promise<Job> {
    return this.#json("POST", `/jobs/${idOf(jobId)}/cancel`);
  }

  /** Delete a job with its audio, scores and events. */
  async delete(jobId: string): Promise<void> {
    await this.#send("DELETE", `/jobs/${idOf(jobId)}`);
  }

  /** Read the embedding of a track that was sent with `embedding: true`. */
  async embedding(jobId: string): Promise<Embedding> {
    return this.#json("GET", `/jobs/${idOf(jobId)}/embedding`);
  }

  /** Send up to 20 tracks. Items are in the order of the tracks, each with a job or a problem. */
  async createBatch(tracks: Blob[], options: BatchOptions = {}): Promise<Batch> {
    return this.#submit("/batches", asForm("files", tracks), options);
  }

  /** Read a batch: its counts and its first 100 items. */
  async batch(batchId: string): Promise<Batch> {
    return this.#json("GET", `/batches/${idOf(batchId)}`, { query: { limit: PAGE } });
  }

  /** Wait until every job of a batch is over. Throws `ApexError` when that takes longer. */
  async waitForBatch(batchId: string, timeoutSeconds = 3600): Promise<Batch> {
    const deadline = now() + timeoutSeconds;
    for (;;) {
      const answer = await this.#send("GET", `/batches/${idOf(batchId)}`, { query: { limit: PAGE } });
      const batch: Batch = await answer.json();
      if (batch.done) return batch;
      const pauseSeconds = retryAfterSeconds(answer) ?? 1;
      if (now() + pauseSeconds > deadline) throw new ApexError(`${batchId} is not done`);
      await pause(pauseSeconds);
    }
  }

  /** List batches, newest first, without their items. */
  batches(filters: BatchFilters = {}): AsyncGenerator<Batch> {
    return this.#items("/batches", filters);
  }

  /** All items of a batch, which may have 10,000. */
  batchItems(batchId: string): AsyncGenerator<BatchItem> {
    return this.#items(`/batches/${idOf(batchId)}`, {});
  }

  /** Follow a batch until everything in it is final, over connections that break. */
  batchEvents(batchId: string, lastEventId?: string): AsyncGenerator<StreamEvent> {
    return this.#events(`/batches/${idOf(batchId)}`, lastEventId);
  }

  /** Read all items of a batch in one answer. Throws `ConnectionFailed` where it is cut off. */
  batchResults(batchId: string): AsyncGenerator<BatchItem> {
    return this.#results(`/batches/${idOf(batchId)}`, {});
  }

  /** The same as a table in CSV, in parts as they come. */
  batchResultsCsv(batchId: string): AsyncGenerator<string> {
    return this.#csv(`/batches/${idOf(batchId)}`, {});
  }

  /** Read what came of telling a batch's `webhook_url` that it is complete. */
  async batchDeliveries(batchId: string): Promise<Delivery[]> {
    return this.#deliveries(`/batches/${idOf(batchId)}`);
  }

  /** Tell again that a batch is complete. */
  async redeliverBatch(batchId: string, deliveryId: string): Promise<Delivery> {
    return this.#json("POST", `/batches/${idOf(batchId)}/deliveries/${idOf(deliveryId)}/redeliver`);
  }

  /** Stop every job of a batch that is not over. */
  async cancelBatch(batchId: string): Promise<Batch> {
    return this.#json("POST", `/batches/${idOf(batchId)}/cancel`);
  }

  /** Read what this key and its tenant used by day, and what is left of the key's limits. */
  async usage(days?: number): Promise<Usage> {
    return this.#json("GET", "/usage", { query: days === undefined ? {} : { days } });
  }

  /** Rank finished jobs by a weighted mean of their scores. */
  async compare(jobIds: string[], criterion: Record<string, number>): Promise<Comparison> {
    const body = JSON.stringify({ job_ids: jobIds, criterion });
    return this.#json("POST", "/compare", { headers: { "Content-Type": "application/json" }, body });
  }

  /** Read which model the workers run, and what its scores mean and do not mean. */
  async model(): Promise<ModelCard> {
    return this.#json("GET", "/model");
  }

  async *#events(subject: string, lastEventId?: string): AsyncGenerator<StreamEvent> {
    for (let failures = 0; ; failures++) {
      const headers: Record<string, string> = lastEventId === undefined ? {} : { "Last-Event-ID": lastEventId };
      const answer = await this.#send("GET", `${subject}/events`, { headers, stream: true });
      if (answer.status === 204) return;
      let cause: unknown;
      try {
        for await (const event of readEvents(answer)) {
          yield event;
          if (ENDS.includes(event.name)) return;
          failures = -1;
          lastEventId = event.id ?? lastEventId;
        }
      } catch (error) {
        cause = error;
      }
      if (failures === this.#maxRetries) throw new ConnectionFailed("the events end before the last one", { cause });
      await pause(pauseSeconds(Math.max(failures, 0), undefined));
    }
  }

  async *#results<T>(subject: string, filters: JobFilters): AsyncGenerator<T> {
    for await (const line of uncut(readLines(await this.#open(subject, filters, "application/jsonl")))) {
      yield JSON.parse(line) as T;
    }
  }

  async *#csv(subject: string, filters: JobFilters): AsyncGenerator<string> {
    for await (const line of uncut(readLines(await this.#open(subject, filters, "text/csv")))) yield `${line}\n`;
  }

  async #open(subject: string, filters: JobFilters, mediaType: string): Promise<Response> {
    return this.#send("GET", `${subject}/results`, {
      query: filterTexts(filters),
      headers: { Accept: mediaType },
      stream: true,
    });
  }

  async #deliveries(subject: string): Promise<Delivery[]> {
    const found: { items: Delivery[] } = await this.#json("GET", `${subject}/deliveries`);
    return found.items;
  }

  async *#items<T>(path: string, filters: JobFilters | BatchFilters): AsyncGenerator<T> {
    const texts = filterTexts(filters);
    let cursor: string | null = "";
    while (cursor !== null) {
      const query: Query = { limit: PAGE, ...(cursor && { cursor }), ...texts };
      const page: { items: T[]; next_cursor: string | null } = await this.#json("GET", path, { query });
      yield* page.items;
      cursor = page.next_cursor;
    }
  }

  async #scored(job: Job, deadline: number): Promise<ScoredJob> {
    while (!job.done) {
      const leftSeconds = deadline - now();
      if (leftSeconds <= 0) throw new WaitTimeout(job);
      const waitSeconds = Math.max(1, Math.floor(Math.min(LONGEST_WAIT_S, leftSeconds)));
      const askedAt = now();
      const answer = await this.#send("GET", `/jobs/${idOf(job.id)}`, { query: { wait: waitSeconds }, waitSeconds });
      job = (await answer.json()) as Job;
      // A service that lets nobody wait says how soon to come again.
      if (!job.done && now() - askedAt < waitSeconds / 2) {
        await pause(Math.min(retryAfterSeconds(answer) ?? 1, leftSeconds));
      }
    }
    if (!isScored(job)) throw new JobFailed(job);
    return job;
  }

  async #submit<T>(path: string, write: Writer, options: Sending, waitSeconds = 0): Promise<T> {
    const { idempotencyKey = crypto.randomUUID(), cancelAfter, ...fields } = options;
    const { headers, body } = write(fields);
    headers["Idempotency-Key"] = idempotencyKey;
    if (cancelAfter) headers["Cancel-After"] = cancelAfter;
    if (waitSeconds >= 1) headers["Prefer"] = `wait=${Math.floor(waitSeconds)}`;
    return this.#json("POST", path, { headers, body, waitSeconds });
  }

  async #json<T>(method: string, path: string, request: Request = {}): Promise<T> {
    return (await (await this.#send(method, path, request)).json()) as T;
  }

  /** The answer to a request; it is repeated while it fails for a reason that may pass. */
  async #send(method: string, path: string, request: Request = {}): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      const error = await this.#attempt(method, path, request);
      if (error instanceof Response) return error;
      if (attempt === this.#maxRetries || (error instanceof ApiError && !error.retryable)) throw error;
      await pause(pauseSeconds(attempt, error instanceof ApiError ? error.retryAfterSeconds : undefined));
    }
  }

  async #attempt(method: string, path: string, request: Request): Promise<Response | ApiError | ConnectionFailed> {
    const given = Object.entries(request.query ?? {});
    const query = new URLSearchParams(given.flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)])));
    const url = `${this.#url}${path}${query.size ? `?${query}` : ""}`;
    const headers = { ...request.headers, ...this.#headers };
    const signal = method === "GET" && !request.stream ? AbortSignal.timeout(1000 * (IDLE_S + (request.waitSeconds ?? 0))) : null;
    try {
      const answer = await this.#fetch(url, { method, headers, body: request.body ?? null, signal });
      return answer.ok ? answer : await ApiError.of(answer);
    } catch (cause) {
      return new ConnectionFailed(String(cause), { cause });
    }
  }
}

function isScored(job: Job): job is ScoredJob {
  return job.status === "succeeded" && job.result !== null;
}

/** Tracks and their options as a form. */
function asForm(part: string, tracks: Blob[]): Writer {
  return (fields) => {
    const body = new FormData();
    for (const track of tracks) body.append(part, track, "track");
    for (const [name, value] of Object.entries(fields)) if (value !== undefined) body.append(name, fieldText(value));
    return { headers: {}, body };
  };
}

/** A URL and its options as JSON. */
function asJson(url: URL): Writer {
  return (fields) => ({
    headers: { "Content-Type": "application/json" },
    // Lists are texts with commas in JSON, too.
    body: JSON.stringify({ ...fields, url: url.href }, (_, value) => (Array.isArray(value) ? value.join(",") : value)),
  });
}

/** What comes in parts; that it was cut off is a failure of the connection. */
async function* uncut(parts: AsyncGenerator<string>): AsyncGenerator<string> {
  try {
    yield* parts;
  } catch (cause) {
    throw new ConnectionFailed("the results were cut off", { cause });
  }
}

/** Filters as a query carries them. */
function filterTexts(filters: object): Query {
  const chosen = Object.entries(filters).filter(([, value]) => value !== undefined);
  return Object.fromEntries(chosen.map(([name, value]) => [name, filterText(value)]));
}

/** A filter as a query carries it; metadata as one parameter for each key. */
function filterText(value: unknown): string | string[] {
  if (typeof value !== "object" || value === null) return fieldText(value);
  return Object.entries(value).map(([key, text]) => `${key}:${text}`);
}

/** A value as a field of a form carries it. */
function fieldText(value: unknown): string {
  if (Array.isArray(value)) return value.join(",");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** What the service asks for; else twice as long each time, apart from other clients that were refused too. */
function pauseSeconds(attempt: number, askedSeconds: number | undefined): number {
  const seconds = askedSeconds ?? FIRST_PAUSE_S * 2 ** attempt * (0.5 + Math.random() / 2);
  return Math.min(seconds, LONGEST_PAUSE_S);
}

function now(): number {
  return performance.now() / 1000;
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

/** An id as a part of a path. Throws for a text that could lead to another path. */
function idOf(text: string): string {
  if (!/^[A-Za-z0-9_-]+$/.test(text)) throw new TypeError(`not an id: ${JSON.stringify(text)}`);
  return text;
}
