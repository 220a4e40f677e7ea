// Upload a track with the client that orval generates, and print its finished job: `upload.js URL FILE`.

import { openAsBlob } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { getJob, type Job, type Problem, scoreTrack } from './client/client';

// Its paths are relative, as they are for a page that the service's own host serves.
const [url, path] = process.argv.slice(2);
const send = globalThis.fetch;
globalThis.fetch = (target, options) => send(url + target, options);

function jobOf(answer: { status: number; data: Job | Problem | void }): Job {
  if (answer.status !== 200 && answer.status !== 202) throw new Error(JSON.stringify(answer.data));
  return answer.data as Job;
}

async function upload(): Promise<Job> {
  const file = await openAsBlob(path);
  let job = jobOf(await scoreTrack({ file, external_id: 'orval', metadata: { album: 'x' } }));
  while (!job.done) {
    await sleep(100);
    job = jobOf(await getJob(job.id));
  }
  return job;
}

upload().then((job) => {
  const streams: number | undefined = job.result?.scores.score_streams;
  const [low, high]: number[] = job.result?.ranges.score_streams ?? [];
  console.log(JSON.stringify({ ...job, named: [streams, low, high] }));
});
