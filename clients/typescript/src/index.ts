/** Client of the APEX music-scoring service. */

export { ApexClient, type ClientOptions } from "./client.js";
export { ApexError, ApiError, ConnectionFailed, JobFailed, WaitTimeout } from "./errors.js";
export type {
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
  Problem,
  ProgressEvent,
  ScoredJob,
  StreamEvent,
  TrackOptions,
  Usage,
  WebhookEvent,
} from "./types.js";
export { verifyWebhook, type WebhookHeaders, WebhookVerificationError } from "./webhooks.js";
