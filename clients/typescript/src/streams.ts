/** Answers that are read part by part: lines, and server-sent events. */

import type { StreamEvent } from "./types.js";

/** Events after which no more follow. */
export const ENDS = ["job.succeeded", "job.failed", "job.canceled", "batch.completed"];

/** The lines of an answer as they come, each without its line feed. Throws where the answer breaks off. */
export async function* readLines(answer: Response): AsyncGenerator<string> {
  const reader = answer.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      yield* lines;
    }
    if (rest) yield rest;
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

/** The events of an answer. One that is cut off counts for nothing. */
export async function* readEvents(answer: Response): AsyncGenerator<StreamEvent> {
  let fields: Record<string, string> = {};
  for await (const line of readLines(answer)) {
    const text = line.replace(/\r$/, "");
    if (text) {
      const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/.exec(text) ?? [];
      fields[name] = value;
      continue;
    }
    const { event = "message", data, id } = fields;
    if (data !== undefined) yield { name: event, data: JSON.parse(data), ...(id !== undefined && { id }) };
    fields = {};
  }
}
