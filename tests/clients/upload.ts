// Upload a track with the generated TypeScript client and print its finished job: `upload.js URL FILE`.

import { openAsBlob } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { getJob, type Job, scoreTrack } from './apex';
import { createClient } from './apex/client';

async function upload(url: string, path: string): Promise<Job> {
  const client = createClient({ baseUrl: url, throwOnError: true });
  const body = { file: await openAsBlob(path), external_id: 'from-typescript' };
  let { data: job } = await scoreTrack({ client, body, throwOnError: true });
  while (!job.done) {
    await sleep(100);
    ({ data: job } = await getJob({ client, path: { id: job.id }, throwOnError: true }));
  }
  return job;
}

upload(process.argv[2], process.argv[3]).then((job) => console.log(JSON.stringify(job)));
