// A table that sorts and only makes the rows that can be seen: ten thousand rows cost what forty do.

import { attr, h, text } from "./dom.js";

const ROW_HEIGHT = 34;
const BEYOND = 10;

/**
 * Columns have an `id`, a `title`, a `value(row)` to sort by, and either `show(row)`, a text, or `draw(cell, row)`, which
 * brings a cell up to date. `key(row)` tells rows apart; `pick(row)` is called for who clicks one.
 */
export class Table {
  constructor({ label, columns, key, pick, sort, descending = false, empty = "nothing here" }) {
    Object.assign(this, { columns, key, pick, sort, descending, emptyText: empty });
    this.rows = [];
    this.made = new Map();
    this.heads = columns.map((column) => this.head(column));
    this.body = h("tbody", {});
    this.above = h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colspan: columns.length }));
    this.below = h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colspan: columns.length }));
    this.table = h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, this.heads)), this.body);
    this.nothing = h("p", { class: "empty hidden" });
    this.element = h("div", { class: "table", role: "region", "aria-label": label, tabindex: "0" }, this.table, this.nothing);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.showSort();
  }

  head(column) {
    const cell = h("th", { scope: "col", class: column.class });
    if (!column.value) cell.append(h("span", {}, column.title));
    else cell.append(h("button", { type: "button", onclick: () => this.sortBy(column) }, column.title));
    return cell;
  }

  sortBy(column) {
    this.descending = this.sort === column.id ? !this.descending : column.class?.includes("r") ?? false;
    this.sort = column.id;
    this.showSort();
    this.set(this.rows);
  }

  showSort() {
    this.columns.forEach((column, at) => {
      if (!column.value) return;
      const way = this.descending ? "descending" : "ascending";
      attr(this.heads[at], "aria-sort", column.id === this.sort ? way : "none");
    });
  }

  /** Shows these rows. */
  set(rows, emptyText = this.emptyText) {
    const by = this.columns.find((column) => column.id === this.sort)?.value;
    const sign = this.descending ? -1 : 1;
    this.rows = by ? [...rows].sort((a, b) => sign * compare(by(a), by(b)) || compare(this.key(a), this.key(b))) : rows;
    text(this.nothing, emptyText);
    this.nothing.classList.toggle("hidden", rows.length > 0);
    attr(this.table, "aria-rowcount", rows.length + 1);
    this.draw();
  }

  select(wanted) {
    this.selected = wanted;
    for (const [id, row] of this.made) row.classList.toggle("selected", id === wanted);
  }

  draw() {
    const seen = Math.ceil((this.element.clientHeight || 900) / ROW_HEIGHT) + 2 * BEYOND;
    const first = Math.max(0, Math.min(Math.floor(this.element.scrollTop / ROW_HEIGHT) - BEYOND, this.rows.length - seen));
    const shown = this.rows.slice(first, first + seen);
    const kept = new Map();
    const wanted = shown.map((row, at) => {
      const id = this.key(row);
      const element = this.made.get(id) ?? this.make(id);
      kept.set(id, element);
      this.update(element, row, first + at);
      return element;
    });
    // Rows with the focus in them stay where they are, so nothing is taken out that is wanted.
    for (const [id, element] of this.made) if (!kept.has(id)) element.remove();
    this.made = kept;
    height(this.above, first);
    height(this.below, this.rows.length - first - shown.length);
    const order = [this.above, ...wanted, this.below];
    let at = this.body.firstChild;
    for (const element of order) {
      if (element === at) at = at.nextSibling;
      else this.body.insertBefore(element, at);
    }
  }

  make(id) {
    const row = h("tr", { class: this.pick ? "pick" : undefined }, this.columns.map((column) => h("td", { class: column.class })));
    if (this.pick) row.addEventListener("click", (event) => {
      if (!event.target.closest("button, a, input, select")) this.pick(row.row);
    });
    row.classList.toggle("selected", id === this.selected);
    return row;
  }

  update(element, row, at) {
    element.row = row;
    attr(element, "aria-rowindex", at + 2);
    this.columns.forEach((column, number) => {
      const cell = element.children[number];
      if (column.draw) column.draw(cell, row);
      else {
        const shown = column.show(row);
        text(cell, shown);
        cell.classList.toggle("zero", shown === "0" || shown === "–");
      }
    });
  }
}

function height(gap, rows) {
  gap.firstChild.style.height = `${rows * ROW_HEIGHT}px`;
  gap.classList.toggle("hidden", rows <= 0);
}

/** Numbers by size, what is not known below everything, texts by their characters. */
function compare(a, b) {
  if (typeof a === "string" && typeof b === "string") return a < b ? -1 : a > b ? 1 : 0;
  const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : -Infinity);
  const [left, right] = [number(a), number(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** A cell with a button that does for the keyboard what a click on the row does. */
export function pickCell(cell, label, act) {
  let link = cell.firstElementChild;
  if (!link) {
    link = h("button", { type: "button", class: "link", onclick: () => link.act() });
    cell.append(link);
  }
  link.act = act;
  text(link, label);
}

/** A cell with a tag. */
export function tagCell(cell, label, kind) {
  let tag = cell.firstElementChild;
  if (!tag) cell.append((tag = h("span", {})));
  attr(tag, "class", `tag ${kind}`);
  text(tag, label);
}
