/** The newest batches: what became of their tracks, and what stops the rest of one. */
import { cancelBatch, listBatches } from "../client/api.js";
import { announce, byId, fill, h } from "./dom.js";
import { counted, moment } from "./format.js";
import { problemNote } from "./problem.js";

/** @typedef {import("../client/api.js").Batch} Batch */

/** What a batch's tracks may have come to, in the order in which it is said. */
const STATES = /** @type {const} */ (["queued", "running", "succeeded", "failed", "canceled", "rejected", "expired"]);

export class BatchList {
  /**
   * @param {(batchId: string) => void} open
   * @param {() => Promise<void>} onCancel called once tracks were canceled; reads the list again
   */
  constructor(open, onCancel) {
    this.open = open;
    this.onCancel = onCancel;
    this.element = byId("batches", HTMLElement);
    this.trouble = byId("batch-trouble", HTMLElement);
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
    const name = batch.batch_external_id ?? `Batch ${batch.id.replace(/^bat_/, "").slice(0, 8)}`;
    return h(
      "li",
      {},
      h("button", { type: "button", class: "link", id: batch.id, click: () => this.open(batch.id) }, name),
      h("span", {}, `${counted(batch.counts.total, "track")}: ${said.join(", ")}`),
      h("small", {}, moment(batch.created_at)),
      this.cancelButton(batch, name),
    );
  }

  /**
   * Cancels the tracks of a batch that have not ended, when it is pressed for the second time.
   * @param {Batch} batch
   * @param {string} name
   */
  cancelButton({ id, counts }, name) {
    const rest = counted(counts.queued + counts.running, "track");
    if (counts.queued + counts.running === 0) return h("span", {});
    const press = () => {
      if (button.dataset.asked) this.cancel(id, button);
      button.dataset.asked = "yes";
      button.textContent = `Cancel ${rest}?`;
      button.removeAttribute("aria-label");
    };
    const button = h("button", { type: "button", "aria-label": `Cancel ${name}`, click: press }, "Cancel");
    return button;
  }

  /**
   * @param {string} id
   * @param {HTMLButtonElement} button
   */
  async cancel(id, button) {
    button.disabled = true;
    try {
      const { counts } = await cancelBatch(id);
      fill(this.trouble);
      announce(`${counted(counts.canceled, "track")} of the batch canceled`);
    } catch (error) {
      fill(this.trouble, problemNote(error));
    }
    await this.onCancel();
    document.getElementById(id)?.focus();
  }
}
