/** Follows a job to its end: by its events where it is its turn, else by reading it at the pace that the service sets. */
import { jobPath, request } from "./api.js";
import { events } from "./events.js";
import { Problem } from "./problem.js";
import { backoffS, sleep, Turns } from "./turns.js";

/** @typedef {import("#api").components["schemas"]["Job"]} Job */
/** @typedef {import("#api").components["schemas"]["ProgressEvent"]} ProgressEvent */
/**
 * @typedef {object} Follower
 * @property {AbortSignal} signal
 * @property {(job: Job) => void} onJob
 * @property {(progress: ProgressEvent) => void} onProgress
 * @property {(problem: Problem) => void} onTrouble the way to the service is broken; it is tried again
 */

/** Streams that are open at a time: each takes one of the browser's six connections. */
const streams = new Turns(2);
const PACE_S = 1;
/** The service sends a sign of life every 15 s; a stream that is silent for longer is dead. */
const SILENCE_S = 40;
const ENDED = 204;

/**
 * The job once it is over.
 * @param {Job} job
 * @param {Follower} follower
 * @returns {Promise<Job>}
 */
export async function follow(job, follower) {
  /** @type {Following} */
  const following = { job, lastEventId: null, failures: 0 };
  while (!following.job.done) {
    try {
      await step(following, follower);
      following.failures = 0;
    } catch (error) {
      if (!(error instanceof Problem) || !error.retryable) throw error;
      following.failures += 1;
      follower.onTrouble(error);
      await sleep(error.retryAfterS ?? backoffS(following.failures), follower.signal);
    }
  }
  return following.job;
}

/** @typedef {{ job: Job, lastEventId: string | null, failures: number }} Following */

/**
 * @param {Following} following
 * @param {Follower} follower
 */
async function step(following, follower) {
  const isNear = following.job.status === "running" || (following.job.queue?.position ?? 1) <= 1;
  if (isNear && streams.take()) {
    try {
      await stream(following, follower);
    } finally {
      streams.give();
    }
    if (following.job.done) return;
  } else {
    await sleep(following.job.status === "running" ? PACE_S : paceS(following.job), follower.signal);
  }
  await read(following, follower);
}

/** @param {Job} job */
function paceS(job) {
  return Math.min(PACE_S * Math.max(job.queue?.position ?? 1, 1), 5);
}

/**
 * @param {Following} following
 * @param {Follower} follower
 */
async function read(following, { signal, onJob }) {
  following.job = await (await request(jobPath(following.job.id), { signal })).json();
  onJob(following.job);
}

/**
 * Take in events until the stream ends. One that breaks goes on where it broke.
 * @param {Following} following
 * @param {Follower} follower
 */
async function stream(following, follower) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_S * 1000);
  const answer = await request(`${jobPath(following.job.id)}/events`, {
    headers: {
      Accept: "text/event-stream",
      ...(following.lastEventId ? { "Last-Event-ID": following.lastEventId } : {}),
    },
    signal: AbortSignal.any([follower.signal, silence.signal]),
  });
  try {
    if (answer.status === ENDED || !answer.body) return;
    for await (const event of events(answer.body)) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_S * 1000);
      take(event, following, follower);
    }
  } catch (error) {
    follower.signal.throwIfAborted();
    if (error instanceof Problem) throw error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {import("./events.js").ServerEvent} event
 * @param {Following} following
 * @param {Follower} follower
 */
function take(event, following, { onJob, onProgress }) {
  following.lastEventId = event.id ?? following.lastEventId;
  if (event.name === "job.progress") {
    onProgress(JSON.parse(event.data));
  } else if (event.name && event.data) {
    following.job = JSON.parse(event.data);
    onJob(following.job);
  }
}
