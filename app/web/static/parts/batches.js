/** The newest batches: what became of their tracks. */
import { listBatches } from "../client/api.js";
import { byId, fill, h } from "./dom.js";
import { counted, moment } from "./format.js";

/** @typedef {import("../client/api.js").Batch} Batch */

/** What a batch's tracks may have come to, in the order in which it is said. */
const STATES = /** @type {const} */ (["queued", "running", "succeeded", "failed", "canceled", "rejected", "expired"]);

export class BatchList {
  /** @param {(batchId: string) => void} open */
  constructor(open) {
    this.open = open;
    this.element = byId("batches", HTMLElement);
  }

  /** Nothing is shown where there are none, or where they cannot be read. */
  async read() {
    const { items } = await listBatches().catch(() => ({ items: [] }));
    this.element.hidden = items.length === 0;
    fill(byId("batch-rows", HTMLElement), ...items.map((batch) => this.row(batch)));
  }

  /** @param {Batch} batch */
  row(batch) {
    const said = STATES.filter((state) => batch.counts[state] > 0).map((state) => `${batch.counts[state]} ${state}`);
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "link", click: () => this.open(batch.id) },
        batch.batch_external_id ?? `Batch ${batch.id.replace(/^bat_/, "").slice(0, 8)}`,
      ),
      h("span", {}, `${counted(batch.counts.total, "track")}: ${said.join(", ")}`),
      h("small", {}, moment(batch.created_at)),
    );
  }
}
