// Parts that several views share: the choice of an app, a field to search by, cards.

import { h, text } from "./dom.js";

/** A choice among apps, kept up to date; `all` offers all of them together. */
export function appChoice(go, view, all) {
  const select = h("select", { id: "app", onchange: () => go(view, { app: select.value || null, fn: null, edge: null }) });
  const element = h("label", { class: "field" }, "App", select);
  let known = "";
  return {
    element,
    update(names, chosen) {
      const listed = names.join("\n");
      if (listed !== known) {
        known = listed;
        const options = names.map((name) => h("option", { value: name }, name));
        select.replaceChildren(...(all ? [h("option", { value: "" }, "All apps"), ...options] : options));
      }
      if (document.activeElement !== select) select.value = chosen ?? "";
    },
  };
}

/** A field to search by; tells what is typed, a moment after. */
export function searchField(label, told) {
  let timer = 0;
  const field = h("input", { type: "search", placeholder: `${label} ( / )`, "aria-label": label, maxlength: "120", spellcheck: "false" });
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => told(field.value.trim().toLowerCase()), 80);
  });
  return field;
}

/** A card with a heading, tools beside it, and a body. */
export function card(title, tools, ...body) {
  const small = h("small", {});
  const heading = h("h2", {}, title, small);
  const element = h("section", { class: "card" }, h("header", {}, heading, tools), ...body);
  return { element, note: (value) => text(small, value) };
}

/** The heading of a view. */
export function heading(title, ...tools) {
  const small = h("small", {});
  const element = h("div", { class: "head" }, h("h1", {}, title, small), ...tools);
  return { element, note: (value) => text(small, value) };
}

/** Rows of a name and a value, made once. */
export class Facts {
  constructor(kind = "") {
    this.element = h("dl", { class: `facts ${kind}` });
    this.rows = new Map();
  }

  /** Shows these pairs; those without a value are left out. */
  set(pairs) {
    const wanted = new Map(pairs.filter(([, value]) => value !== undefined && value !== null && value !== ""));
    for (const [name, row] of this.rows) {
      if (wanted.has(name)) continue;
      row.forEach((part) => part.remove());
      this.rows.delete(name);
    }
    let at = this.element.firstChild;
    for (const [name, value] of wanted) {
      const row = this.rows.get(name) ?? [h("dt", {}, name), h("dd", {})];
      this.rows.set(name, row);
      text(row[1], value);
      if (row[0] !== at) row.forEach((part) => this.element.insertBefore(part, at));
      at = row[1].nextSibling;
    }
  }
}

/** What is shown where nothing is deployed. */
export const nothingDeployed = () => h("div", { class: "card empty" },
  h("p", {}, "Nothing is deployed on this node yet."),
  h("p", {}, h("code", {}, "baton new hello && baton deploy hello"), " deploys a first function."));

