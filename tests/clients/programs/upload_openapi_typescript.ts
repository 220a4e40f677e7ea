// Upload a track with the types that openapi-typescript generates, and print its finished job: `upload.js URL FILE`.

import { openAsBlob } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import createClient from 'openapi-fetch';

import type { components, paths } from './client/schema';

type Job = components['schemas']['Job'];
type TrackForm = components['schemas']['TrackForm'];

function formOf(track: Record<string, Blob | string>): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(track)) form.append(name, value);
  return form;
}

async function upload(url: string, path: string): Promise<Job> {
  const client = createClient<paths>({ baseUrl: url });
  const track = { file: await openAsBlob(path), external_id: 'openapi_typescript', metadata: '{"album": "x"}' };
  const bodySerializer = () => formOf(track);
  let { data: job, error } = await client.POST('/score', { body: {} as TrackForm, bodySerializer });
  while (job && !job.done) {
    await sleep(100);
    ({ data: job, error } = await client.GET('/jobs/{id}', { params: { path: { id: job.id } } }));
  }
  if (!job) throw new Error(JSON.stringify(error));
  return job;
}

upload(process.argv[2], process.argv[3]).then((job) => {
  const streams: number | undefined = job.result?.scores.score_streams;
  const [low, high]: number[] = job.result?.ranges.score_streams ?? [];
  console.log(JSON.stringify({ ...job, named: [streams, low, high] }));
});
