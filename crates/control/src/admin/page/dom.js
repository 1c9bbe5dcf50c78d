// Elements, made without markup: every text that comes from outside ends as a text node, whatever it says.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element. Attributes that begin with `on` are listeners. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Puts a text into an element, unless it is there: what does not change is not laid out again. */
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets an attribute, unless it is as wanted; `null` takes it away. */
export function attr(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** A button. */
export function button(label, act, kind = "") {
  return h("button", { type: "button", class: `button ${kind}`, onclick: act }, label);
}

/** What stands where there is nothing to show. */
export const empty = (...children) => h("div", { class: "empty" }, ...children);

/** A line of values below its past. */
export function spark(values, bad = false) {
  const svg = s("svg", { class: bad ? "spark bad" : "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" });
  redrawSpark(svg, values);
  return svg;
}

export function redrawSpark(svg, values) {
  const most = Math.max(...values, 1e-9);
  const step = 100 / Math.max(values.length - 1, 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(23 - (value / most) * 21).toFixed(1)}`);
  const line = points.length > 1 ? `M${points.join("L")}` : "";
  if (svg.childElementCount === 0) svg.append(s("path", { class: "area" }), s("path", {}));
  attr(svg.children[0], "d", line && `${line}L100,24L0,24Z`);
  attr(svg.children[1], "d", line);
}
