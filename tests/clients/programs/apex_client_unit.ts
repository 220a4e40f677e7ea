// What clients/typescript repeats and what not, and what it throws: `apex_client_unit.js JOBS SIGNED` prints a line a check.

import { deepStrictEqual as equal, ok, rejects } from "node:assert";

import {
  ApexClient,
  ApiError,
  type ClientOptions,
  ConnectionFailed,
  type Job,
  JobFailed,
  type StreamEvent,
  verifyWebhook,
  WaitTimeout,
  WebhookVerificationError,
} from "apex-client";

const [jobs = "", signed = ""] = process.argv.slice(2);
const { queued, succeeded, failed }: Record<"queued" | "succeeded" | "failed", Job> = JSON.parse(jobs);

interface Sent {
  url: string;
  headers: Record<string, string>;
  body: FormData | string | null;
}

/** Gives its answers one after the other, and notes what it is sent. */
function server(...answers: (Response | Error)[]): { sent: Sent[]; apex: (options?: ClientOptions) => ApexClient } {
  const sent: Sent[] = [];
  const answer = async (url: string, { headers, body }: Sent): Promise<Response> => {
    sent.push({ url, headers, body });
    const next = answers.shift() ?? new Error("no more answers");
    if (next instanceof Error) throw next;
    return next;
  };
  const send = answer as unknown as typeof fetch;
  return { sent, apex: (options) => new ApexClient("http://apex/base/", { apiKey: "k", fetch: send, ...options }) };
}

function problem(status: number, code: string, retryable: boolean): Response {
  const headers = { "Retry-After": "0", "X-Request-Id": "r1" };
  return Response.json({ code, detail: "Because.", retryable }, { status, headers });
}

function event(name: string, data: object, id: string): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\nid: ${id}\n\n`;
}

/** An answer that comes in parts, and may be cut after them. */
function streamed(parts: string[], isCut = false): Response {
  const encoder = new TextEncoder();
  const left = [...parts];
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    const part = left.shift();
    if (part !== undefined) controller.enqueue(encoder.encode(part));
    else if (isCut) controller.error(new TypeError("cut"));
    else controller.close();
  };
  return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }));
}

const track = new Blob(["the track"]);
const again = () => Response.json(queued, { status: 202, headers: { "Retry-After": "0" } });

const checks: Record<string, () => Promise<void>> = {
  async "a track is sent whole and under one key however often"() {
    const { sent, apex } = server(new TypeError("broken"), problem(503, "queue_full", true), Response.json(succeeded));
    const options = { segments: true, metadata: { album: "x" }, webhook_events: ["a", "b"] };
    equal(await apex().score(track, options), succeeded);
    equal(sent.length, 3);
    equal(new Set(sent.map(({ headers }) => headers["Idempotency-Key"])).size, 1);
    for (const { url, headers, body } of sent) {
      equal([url, headers["Authorization"]], ["http://apex/base/score", "Bearer k"]);
      ok(body instanceof FormData);
      equal(await (body.get("file") as Blob).text(), "the track");
      const texts = ["segments", "metadata", "webhook_events"].map((name) => body.get(name));
      equal(texts, ["true", '{"album":"x"}', "a,b"]);
    }
  },
  async "a URL is sent as JSON"() {
    const { sent, apex } = server(Response.json(succeeded));
    await apex().score(new URL("https://host.example/a.mp3"), { segments: true, webhook_events: ["a", "b"] });
    const wanted = { segments: true, webhook_events: "a,b", url: "https://host.example/a.mp3" };
    equal([sent[0]?.url, JSON.parse(String(sent[0]?.body))], ["http://apex/base/score/url", wanted]);
    equal(sent[0]?.headers["Content-Type"], "application/json");
  },
  async "a refusal is told at once with its problem"() {
    const { sent, apex } = server(problem(422, "validation_error", false));
    const refusal = { name: "ApiError", code: "validation_error", status: 422, requestId: "r1" };
    await rejects(apex().score(track), refusal);
    equal(sent.length, 1);
  },
  async "it gives up after so many retries"() {
    const broken = server(new TypeError("broken"), new TypeError("broken"));
    await rejects(broken.apex({ maxRetries: 1 }).job("job_1"), ConnectionFailed);
    const proxy = server(new Response("<html>", { status: 502, headers: { "Retry-After": "0" } }));
    await rejects(proxy.apex({ maxRetries: 0 }).job("job_1"), ApiError);
    equal([broken.sent.length, proxy.sent.length], [2, 1]);
  },
  async "scores are waited for"() {
    const { sent, apex } = server(again(), again(), Response.json(succeeded));
    const job = await apex().scoreAndWait(track, { idempotencyKey: "mine", cancelAfter: "10m" });
    equal(job, succeeded);
    const [first, ...polls] = sent;
    const given = ["Prefer", "Idempotency-Key", "Cancel-After"].map((name) => first?.headers[name]);
    equal(given, ["wait=20", "mine", "10m"]);
    equal(
      polls.map(({ url }) => url),
      Array(2).fill(`http://apex/base/jobs/${queued.id}?wait=20`),
    );
  },
  async "a job without scores is an error that has the job"() {
    await rejects(server(Response.json(failed)).apex().wait(failed.id), (error) => {
      ok(error instanceof JobFailed);
      equal(error.job, failed);
      return true;
    });
  },
  async "waiting ends in time and leaves the job"() {
    await rejects(server(Response.json(queued)).apex().wait(queued.id, 0), WaitTimeout);
  },
  async "a list is followed to its end"() {
    const pages = [
      { items: [queued, failed], next_cursor: "c" },
      { items: [succeeded], next_cursor: null },
    ];
    const { sent, apex } = server(...pages.map((page) => Response.json(page)));
    const listed: Job[] = [];
    for await (const job of apex().jobs({ status: "failed", metadata: { album: "x" } })) listed.push(job);
    equal(listed, [queued, failed, succeeded]);
    equal(sent[1]?.url, "http://apex/base/jobs?limit=100&cursor=c&status=failed&metadata=album%3Ax");
  },
  async "events are followed over a connection that breaks"() {
    const first = event("job.snapshot", queued, "1-0");
    const second = event("job.progress", { stage: "decoding" }, "2-0");
    const { sent, apex } = server(
      streamed([first.slice(0, 20), first.slice(20), second.slice(0, -1)], true),
      new TypeError("broken"),
      streamed([": keep-alive\n\n", second], true),
      streamed([event("job.succeeded", succeeded, "3-0"), "event: never\ndata: 1\n\n"]),
    );
    const heard: StreamEvent[] = [];
    for await (const each of apex().events("job_1")) heard.push(each);
    const told = heard.map(({ name, id }) => `${name} ${id}`);
    equal(told, ["job.snapshot 1-0", "job.progress 2-0", "job.succeeded 3-0"]);
    equal(heard[2]?.data, succeeded);
    const last = sent.map(({ headers }) => headers["Last-Event-ID"]);
    equal(last, [undefined, "1-0", "1-0", "2-0"]);
  },
  async "events that were all heard are none, and those that never come are given up"() {
    const { sent, apex } = server(new Response(null, { status: 204 }));
    for await (const each of apex().batchEvents("bat_1", "completed-2")) ok(!each);
    equal(sent[0]?.headers["Last-Event-ID"], "completed-2");
    const silent = server(streamed([], true), streamed([], true));
    await rejects(silent.apex({ maxRetries: 1 }).events("job_1").next(), ConnectionFailed);
    equal(silent.sent.length, 2);
  },
  async "results are read line by line, and are not complete when they are cut off"() {
    const job = { ...succeeded, external_id: "a\u2028b" };
    const text = `${JSON.stringify(job)}\n${JSON.stringify(failed)}\n`;
    const { sent, apex } = server(streamed([text.slice(0, 9), text.slice(9)]), streamed(['{"index": 0}\n'], true));
    const read: Job[] = [];
    for await (const each of apex().results({ metadata: { album: "x" } })) read.push(each);
    equal(read, [job, failed]);
    equal([sent[0]?.url, sent[0]?.headers["Accept"]], ["http://apex/base/results?metadata=album%3Ax", "application/jsonl"]);
    const cut = apex().batchResultsCsv("bat_1");
    equal((await cut.next()).value, '{"index": 0}\n');
    await rejects(cut.next(), ConnectionFailed);
    equal([sent[1]?.url, sent[1]?.headers["Accept"]], ["http://apex/base/batches/bat_1/results", "text/csv"]);
  },
  async "deliveries are read and begun again"() {
    const delivery = { id: "evt_1" };
    const { sent, apex } = server(Response.json({ items: [delivery] }), Response.json(delivery, { status: 202 }));
    equal([await apex().deliveries("job_1"), await apex().redeliverBatch("bat_1", "evt_1")], [[delivery], delivery]);
    const paths = sent.map(({ url }) => url.replace("http://apex/base", ""));
    equal(paths, ["/jobs/job_1/deliveries", "/batches/bat_1/deliveries/evt_1/redeliver"]);
  },
  async "a webhook is verified with either secret, and nothing else is"() {
    const { body, old, requests, secrets } = JSON.parse(signed) as Signed;
    for (const headers of requests) {
      equal((await verifyWebhook(body, headers, ...secrets)).data, succeeded);
      equal((await verifyWebhook(new TextEncoder().encode(body), new Headers(headers), ...secrets)).data, succeeded);
      await rejects(verifyWebhook(`${body} `, headers, ...secrets), WebhookVerificationError);
      await rejects(verifyWebhook(body, headers), WebhookVerificationError);
      await rejects(verifyWebhook(body, { ...headers, "Webhook-Signature": "v1,?" }, ...secrets), WebhookVerificationError);
    }
    await rejects(verifyWebhook(body, requests[0] ?? {}, secrets[1] ?? ""), WebhookVerificationError);
    await rejects(verifyWebhook(body, old, ...secrets), WebhookVerificationError);
    await rejects(verifyWebhook(body, {}, ...secrets), WebhookVerificationError);
  },
};

interface Signed {
  body: string;
  old: Record<string, string>;
  requests: Record<string, string>[];
  secrets: string[];
}

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(name);
}
