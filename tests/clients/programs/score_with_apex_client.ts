// Score a track with clients/typescript, and print the job: `score_with_apex_client.js URL FILE`.

import { deepStrictEqual as equal, ok } from "node:assert";
import { openAsBlob } from "node:fs";

import { ApexClient, type Job, type StreamEvent } from "apex-client";

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

equal(await namesOf(apex.events(job.id)), ["job.snapshot", "job.succeeded"]);
equal(await namesOf(apex.batchEvents(batch.id)), ["batch.snapshot", "batch.completed"]);
for await (const { id } of apex.results({ external_id: "typescript" })) equal(id, job.id);
for await (const { index } of apex.batchResults(batch.id)) equal(index, 0);
let table = "";
for await (const part of apex.batchResultsCsv(batch.id)) table += part;
ok(table.startsWith("index,id,"));
equal(await apex.deliveries(job.id), []);

async function namesOf(events: AsyncIterable<StreamEvent>): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of events) names.push(name);
  return names;
}

const other = await apex.scoreAndWait(track, { segments: true, embedding: true });
const embedding = await apex.embedding(other.id);
await apex.delete(other.id);

const found = { named: [streams, low, high], listed: listed.map(({ id }) => id), counts: batch.counts };
console.log(JSON.stringify({ ...job, ...found, segments: other.result.segments?.length, first: embedding.values[0] }));
