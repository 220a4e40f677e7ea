/** Makes elements. Text is only ever text: nothing here, or anywhere in the page, parses HTML. */

/** @typedef {Node | string | null | false} Child */
/** @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. A function is a listener for the event of that name; true is an empty attribute, false and null are none.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * The same in SVG.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes = {}, ...children) {
  return filled(/** @type {SVGElementTagNameMap[T]} */ (document.createElementNS(SVG, tag)), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/**
 * Put these in place of what is in an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== false));
}

/**
 * Set a custom property of an element's style, by which the stylesheet places it.
 * @template {HTMLElement} E
 * @param {E} element
 * @param {Record<string, string | number>} properties
 */
export function styled(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(`--${name}`, String(value));
  return element;
}

/**
 * The element of the document that a module works on.
 * @template {HTMLElement} E
 * @param {string} id
 * @param {new () => E} kind
 * @returns {E}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`no ${kind.name} is named ${id}`);
  return found;
}

let nIds = 0;

/** An id that no other element has. */
export function freshId() {
  nIds += 1;
  return `e${nIds}`;
}

/** How long what happens at about the same time is gathered, so that it is read out together. */
const GATHER_MS = 300;
/** @type {string[]} */
const gathered = [];

/**
 * Have a screen reader say something.
 * @param {string} text
 */
export function announce(text) {
  if (gathered.push(text) > 1) return;
  setTimeout(() => {
    byId("live", HTMLElement).textContent = gathered.splice(0).join(". ");
  }, GATHER_MS);
}
