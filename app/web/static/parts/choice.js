/** The box that takes a track into the comparison. */
import { selection } from "../state/selection.js";
import { h } from "./dom.js";

/** @typedef {import("../state/track.js").Track} Track */

/**
 * It follows the selection for as long as it is in the document.
 * @param {Track} track that succeeded
 */
export function choiceBox(track) {
  const box = h("input", {
    type: "checkbox",
    "aria-label": `Compare ${track.name}`,
    checked: selection.has(track),
    change: () => selection.choose(track, box.checked),
  });
  const follow = () => {
    if (box.isConnected) box.checked = selection.has(track);
    else selection.removeEventListener("change", follow);
  };
  selection.addEventListener("change", follow);
  return box;
}
