/** What is said about the model on every screen: the banner for untrained weights, and the small print. */
import { byId, fill, h } from "./dom.js";
import { counted, size } from "./format.js";

/** @typedef {import("../client/api.js").ModelCard} ModelCard */

/** @param {ModelCard} card */
export function showModel(card) {
  const banner = byId("stand-in", HTMLElement);
  banner.hidden = card.loaded?.trained !== false;
  fill(byId("model-name", HTMLElement), ...identity(card));
  const ofWhat = card.loaded?.trained === false ? "The published model, which does not run here: " : "";
  fill(byId("training", HTMLElement), h("strong", {}, ofWhat), card.training);
  fill(byId("caveats", HTMLElement), ...card.caveats.map((caveat) => h("li", {}, caveat)));
  fill(byId("licence", HTMLElement), card.licence);
  const limits = document.getElementById("limits");
  if (limits) limits.textContent = limitsText(card);
}

/** @param {ModelCard} card */
function identity({ loaded }) {
  if (!loaded) return ["No worker has started yet: tracks wait until one has."];
  const ran = [loaded.engine, loaded.device, loaded.precision].filter(Boolean).join(", ");
  const state = loaded.trained ? "trained" : "untrained stand-in";
  return [h("strong", {}, `${loaded.name} ${loaded.version}`), ` · ${state}${ran ? ` · ${ran}` : ""}`];
}

/** @param {ModelCard} card */
function limitsText({ inputs }) {
  return `${inputs.containers.join(", ")}. Up to ${size(inputs.max_bytes)} and ${counted(Math.floor(inputs.max_duration_s / 60), "minute")} each.`;
}
