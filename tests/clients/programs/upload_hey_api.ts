// Upload a track with the client that hey-api generates, and print its finished job: `upload.js URL FILE`.

import { openAsBlob } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { getJob, type Job, scoreTrack } from './client';
import { createClient } from './client/client';

async function upload(url: string, path: string): Promise<Job> {
  const client = createClient({ baseUrl: url, throwOnError: true });
  const body = { file: await openAsBlob(path), external_id: 'hey_api', metadata: { album: 'x' } };
  let { data: job } = await scoreTrack({ client, body, throwOnError: true });
  while (!job.done) {
    await sleep(100);
    ({ data: job } = await getJob({ client, path: { id: job.id }, throwOnError: true }));
  }
  return job;
}

upload(process.argv[2], process.argv[3]).then((job) => {
  const streams: number | undefined = job.result?.scores.score_streams;
  const [low, high]: number[] = job.result?.ranges.score_streams ?? [];
  console.log(JSON.stringify({ ...job, named: [streams, low, high] }));
});
