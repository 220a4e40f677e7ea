/** What the service takes and answers. `schema.ts` is made from its OpenAPI document. */

import type { components } from "./schema.js";

type Schemas = components["schemas"];

export type Batch = Schemas["Batch"];
export type BatchItem = Schemas["BatchItem"];
export type Comparison = Schemas["Comparison"];
export type Delivery = Schemas["Delivery"];
export type Embedding = Schemas["Embedding"];
export type Job = Schemas["Job"];
export type ModelCard = Schemas["ModelCard"];
export type ProgressEvent = Schemas["ProgressEvent"];
export type Problem = Schemas["Problem"];
export type Usage = Schemas["Usage"];
/** What a webhook tells: its `type` says what is in `data`. It may come more than once, with the same `webhook-id`. */
export type WebhookEvent = Schemas[
  | "JobSucceededEvent"
  | "JobFailedEvent"
  | "JobCanceledEvent"
  | "BatchCompletedEvent"
  | "WebhookTestEvent"];
/** A job that has scores. */
export type ScoredJob = Job & { result: Schemas["Result"] };

/**
 * What happened: `data` is the progress in a `job.progress`, else the whole job or batch.
 *
 * Give `id` as `lastEventId` to go on after this event. Some events have none.
 */
export interface StreamEvent {
  name: string;
  data: Job | ProgressEvent | Batch;
  id?: string;
}

/** What concerns the request itself. `cancelAfter` is a deadline such as `10m`. */
export interface Sending {
  idempotencyKey?: string;
  cancelAfter?: string;
}

interface Common extends Sending {
  metadata?: Record<string, string>;
  model_version?: string;
  segments?: boolean;
  embedding?: boolean;
  webhook_url?: string;
  webhook_events?: string[];
}

/** What may be said of a track: the fields of `POST /score`. */
export interface TrackOptions extends Common {
  external_id?: string;
  batch_id?: string;
}

/** What may be said of a batch: the fields of `POST /batches`. */
export interface BatchOptions extends Common {
  batch_external_id?: string;
}

/** Which jobs are listed; times in RFC 3339. */
export interface JobFilters {
  status?: Job["status"];
  external_id?: string;
  batch_id?: string;
  created_after?: string;
  created_before?: string;
  metadata?: Record<string, string>;
}

/** Which batches are listed; times in RFC 3339. */
export interface BatchFilters {
  batch_external_id?: string;
  done?: boolean;
  created_after?: string;
  created_before?: string;
}
