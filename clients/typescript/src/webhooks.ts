/** Verify webhooks, which the service signs as Standard Webhooks defines it. */

import { ApexError } from "./errors.js";
import type { WebhookEvent } from "./types.js";

/** How old a webhook may be, and how far its time may be ahead. */
const TOLERANCE_S = 5 * 60;


/** What came is not signed with any of the secrets, or not within the last five minutes. */
export class WebhookVerificationError extends ApexError {}

/** Headers as `fetch` and as Node's `http` have them. */
export type WebhookHeaders = Headers | Record<string, string | string[] | undefined>;

/**
 * The event in the exact bytes of a body, if one of the secrets signed it within the last five minutes.
 *
 * Throws `WebhookVerificationError`. Give two secrets while one replaces the other.
 */
export async function verifyWebhook(
  body: string | Uint8Array,
  headers: WebhookHeaders,
  ...secrets: string[]
): Promise<WebhookEvent> {
  const [id, timestamp, signatures] = ["id", "timestamp", "signature"].map((name) => read(headers, `webhook-${name}`));
  if (!id || !timestamp || !signatures) throw new WebhookVerificationError("a header is missing");
  const age = Date.now() / 1000 - Number(timestamp);
  if (!(Math.abs(age) <= TOLERANCE_S)) throw new WebhookVerificationError("its time is not about now");
  const text = typeof body === "string" ? body : new TextDecoder().decode(body);
  const given = signatures.split(" ").filter((signature) => signature.startsWith("v1,"));
  for (const secret of secrets) {
    for (const signature of given) {
      if (await signs(secret, `${id}.${timestamp}.${text}`, signature.slice("v1,".length))) return JSON.parse(text);
    }
  }
  throw new WebhookVerificationError("no secret matches its signature");
}

function read(headers: WebhookHeaders, name: string): string {
  if (headers instanceof Headers) return headers.get(name) ?? "";
  const found = Object.entries(headers).find(([given]) => given.toLowerCase() === name)?.[1];
  return typeof found === "string" ? found : "";
}

/** Whether the signature of the text is made with the secret; compared in constant time by WebCrypto. */
async function signs(secret: string, text: string, signature: string): Promise<boolean> {
  const key = bytesOf(secret.replace(/^whsec_/, ""));
  const made = bytesOf(signature);
  if (!key?.length || !made) return false;
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key, algorithm, false, ["verify"]);
  return crypto.subtle.verify("HMAC", imported, made, new TextEncoder().encode(text));
}

/** The bytes that a text in base64 stands for; undefined for one that is none. */
function bytesOf(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
