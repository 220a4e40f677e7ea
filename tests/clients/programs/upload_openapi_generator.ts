// Upload a track with the client that openapi-generator generates for TypeScript, and print its finished job:
// `upload.js URL FILE`.

import { openAsBlob } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { Configuration, type Job, JobToJSON, ScoringApi } from './client';

async function upload(url: string, path: string): Promise<Job> {
  const api = new ScoringApi(new Configuration({ basePath: url }));
  const file = await openAsBlob(path);
  let job = await api.scoreTrack({ file, externalId: 'openapi_generator', metadata: { album: 'x' } });
  while (!job.done) {
    await sleep(100);
    job = await api.getJob({ id: job.id });
  }
  return job;
}

upload(process.argv[2], process.argv[3]).then((job) => {
  const streams: number | undefined = job.result?.scores.scoreStreams;
  const [low, high]: number[] = job.result?.ranges.scoreStreams ?? [];
  console.log(JSON.stringify({ ...JobToJSON(job), named: [streams, low, high] }));
});
