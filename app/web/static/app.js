/** The page: one document with three views, and the words of the model around them. */
import { Problem } from "./client/problem.js";
import { showModel } from "./parts/about.js";
import { otherKeyButton, wireKey } from "./parts/dialog.js";
import { byId, fill } from "./parts/dom.js";
import { hearOneAtATime } from "./parts/player.js";
import { problemNote } from "./parts/problem.js";
import { meanings } from "./state/meaning.js";
import { selection } from "./state/selection.js";
import { ScoreView } from "./views/score.js";

/** @typedef {"score" | "compare" | "history"} ViewName */

/** Where the link for keyboards leads: to the view that is shown. */
const SKIP = "#main";
/** @type {Readonly<Record<ViewName, string>>} */
const TITLES = { score: "APEX: score music", compare: "APEX: compare tracks", history: "APEX: history" };
/** How soon to look again where the service is away, or no worker has started. */
const AGAIN_S = 3;
/** Each view by its name; those that a first visit does not show are loaded when they are asked for. */
/** @type {Readonly<Record<ViewName, () => Promise<{ show(jobId: string | null): void }>>>} */
const VIEWS = {
  score: once(async () => new ScoreView()),
  compare: once(async () => new (await import("./views/compare.js")).CompareView()),
  history: once(async () => new (await import("./views/history.js")).HistoryView()),
};

/**
 * Make something when it is first asked for.
 * @template T
 * @param {() => Promise<T>} make
 */
function once(make) {
  /** @type {Promise<T> | null} */
  let made = null;
  return () => {
    made ??= make();
    return made;
  };
}

/**
 * The view that the address names: `#history`, or `#job=…`, which opens a job there.
 * @returns {[ViewName, string | null]}
 */
function addressed() {
  const [name = "", job] = location.hash.slice(1).split("=");
  if (name === "job" && job) return ["history", decodeURIComponent(job)];
  return [Object.hasOwn(VIEWS, name) ? /** @type {ViewName} */ (name) : "score", null];
}

/** Show a view; one that cannot be loaded any more is of a release that was replaced meanwhile. */
function navigate() {
  route().catch(() => {
    const gone = { title: "This page is older than the service", detail: "Reload it.", retryable: true };
    fill(byId("trouble", HTMLElement), problemNote(new Problem(gone)));
  });
}

async function route() {
  if (location.hash === SKIP) return;
  const [name, jobId] = addressed();
  for (const each of Object.keys(VIEWS)) byId(each, HTMLElement).hidden = each !== name;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    if (link.getAttribute("data-view") === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = TITLES[name];
  (await VIEWS[name]()).show(jobId);
}

/** Read what the scores mean, until it is known and a model runs. Without that the page still sends tracks. */
async function introduce() {
  const trouble = byId("trouble", HTMLElement);
  try {
    const card = await meanings.read();
    showModel(card);
    fill(trouble);
    if (card.loaded) return;
  } catch (error) {
    const button = otherKeyButton(error, introduce);
    fill(trouble, problemNote(error, { action: button }));
    if (button) return;
  }
  setTimeout(introduce, AGAIN_S * 1000);
}

wireKey(() => meanings.card === null && introduce());
selection.addEventListener("change", () => {
  byId("compare-count", HTMLElement).textContent = selection.size > 0 ? String(selection.size) : "";
});
addEventListener("hashchange", navigate);
hearOneAtATime();
VIEWS.score();
introduce().then(navigate);
document.documentElement.dataset.ready = "";
