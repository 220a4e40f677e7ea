// Score a track with clients/typescript, and print the job: `score_with_apex_client.js URL FILE`.

import { equal, ok } from "node:assert";
import { openAsBlob } from "node:fs";

import { ApexClient, type Job } from "apex-client";

const [url = "", path = ""] = process.argv.slice(2);
const apex = new ApexClient(url);

const track = await openAsBlob(path);
const job = await apex.scoreAndWait(track, { external_id: "typescript", metadata: { album: "x" } }, 60);
const streams: number | undefined = job.result.scores.score_streams;
const [low, high]: number[] = job.result.ranges.score_streams ?? [];

const listed: Job[] = [];
for await (const each of apex.jobs({ external_id: "typescript" })) listed.push(each);
const batch = await apex.waitForBatch((await apex.createBatch([track], { batch_external_id: "album" })).id);
for await (const { index } of apex.batchItems(batch.id)) equal(index, 0);
const batches: string[] = [];
for await (const { id } of apex.batches({ batch_external_id: "album", done: true })) batches.push(id);
ok(batches.includes(batch.id));
ok((await apex.cancelBatch(batch.id)).done);
ok((await apex.usage(1)).days.length);

const other = await apex.scoreAndWait(track, { segments: true, embedding: true });
const embedding = await apex.embedding(other.id);
await apex.delete(other.id);

const found = { named: [streams, low, high], listed: listed.map(({ id }) => id), counts: batch.counts };
console.log(JSON.stringify({ ...job, ...found, segments: other.result.segments?.length, first: embedding.values[0] }));
