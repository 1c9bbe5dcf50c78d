// Pools: how full they are, and who may access which bytes now.

import { get } from "./api.js";
import { attr, h, text } from "./dom.js";
import * as f from "./format.js";
import { appChoice, card, heading, nothingDeployed, searchField } from "./scope.js";
import { Table, tagCell } from "./table.js";

/** Capabilities that are looked at; the rest is only counted. */
const ROWS_MAX = 20000;

const POOLS = (choose) => [
  { id: "app", title: "App", value: (app) => app.name, draw: (cell, app) => {
    let link = cell.firstElementChild;
    if (!link) cell.append((link = h("button", { type: "button", class: "link", onclick: () => choose(link.app) })));
    link.app = app.name;
    text(link, app.name);
  } },
  { id: "use", title: "In use", value: (app) => (app.pool.pool_bytes - app.pool.free_bytes) / app.pool.pool_bytes, draw: useCell },
  { id: "bytes", title: "Bytes", class: "r", value: (app) => app.pool.pool_bytes - app.pool.free_bytes, show: (app) => f.bytes(app.pool.pool_bytes - app.pool.free_bytes) },
  { id: "size", title: "Pool", class: "r", value: (app) => app.pool.pool_bytes, show: (app) => f.bytes(app.pool.pool_bytes) },
  { id: "buffers", title: "Buffers in use", class: "r", value: (app) => app.pool.buffers_in_use, show: (app) => f.count(app.pool.buffers_in_use) },
  { id: "stashed", title: "Stashed", class: "r", value: (app) => app.pool.buffers_stashed, show: (app) => f.count(app.pool.buffers_stashed) },
  { id: "orphans", title: "Orphans", class: "r", value: (app) => app.pool.orphans, show: (app) => f.count(app.pool.orphans) },
  { id: "held", title: "Put up", class: "r hide-narrow", value: (app) => app.references?.held_bytes, show: (app) => (app.references?.held > 0 ? `${f.bytes(app.references.held_bytes)} in ${f.count(app.references.held)}` : "–") },
];

function useCell(cell, app) {
  const { pool_bytes: all, free_bytes: free } = app.pool;
  if (!cell.firstElementChild) {
    const track = h("div", { class: "track", role: "img" }, h("i", {}));
    track.style.width = "160px";
    cell.append(track);
  }
  const share = (all - free) / all;
  const fill = cell.firstElementChild.firstElementChild;
  fill.style.width = `${(100 * share).toFixed(1)}%`;
  attr(fill, "class", share > 0.9 ? "bad" : "");
  attr(cell.firstElementChild, "aria-label", f.percent(share));
}

const CAPS = [
  { id: "holder", title: "Holder", value: (row) => row.holder, show: (row) => row.holder },
  { id: "app", title: "App", value: (row) => row.app, show: (row) => row.app },
  { id: "state", title: "State", value: (row) => row.state, draw: (cell, row) => tagCell(cell, row.state, row.state === "held" ? "brand" : "warn") },
  { id: "rights", title: "Rights", class: "mono", value: (row) => row.rights, show: (row) => row.rights },
  { id: "buffer", title: "Buffer", class: "r", value: (row) => row.buffer, show: (row) => String(row.buffer) },
  { id: "range", title: "Range", class: "r", value: (row) => row.offset, show: (row) => `${row.offset}..${row.offset + row.len}` },
  { id: "len", title: "Bytes", class: "r", value: (row) => row.len, show: (row) => f.bytes(row.len) },
  { id: "from", title: "Derived from", class: "mono", show: (row) => row.parent ?? "" },
  { id: "invocation", title: "Invocation", class: "mono", show: (row) => row.invocation ?? "" },
];

const HOLDERS = [
  { id: "holder", title: "Holder", value: (row) => row.holder, show: (row) => row.holder },
  { id: "count", title: "Capabilities", class: "r", value: (row) => row.count, show: (row) => f.count(row.count) },
  { id: "bytes", title: "Bytes in reach", class: "r", value: (row) => row.bytes, show: (row) => f.bytes(row.bytes) },
];

/** What each holder can reach; who may access the same bytes twice is counted twice. */
function byHolder(rows) {
  const holders = new Map();
  for (const row of rows) {
    const id = `${row.app} ${row.holder}`;
    const one = holders.get(id) ?? { id, holder: row.holder, count: 0, bytes: 0 };
    one.count += 1;
    one.bytes += row.len;
    holders.set(id, one);
  }
  return [...holders.values()];
}

export function memory({ go, model }) {
  const state = { app: null, rows: [], words: "" };
  const choice = appChoice(go, "memory", true);
  const head = heading("Memory", choice.element);
  const pools = new Table({ label: "Pools", sort: "use", descending: true, columns: POOLS((app) => go("memory", { app })), key: (app) => app.name });
  pools.element.style.maxHeight = "38vh";
  const poolCard = card("Pools", null, pools.element);
  const holders = new Table({ label: "Holders", sort: "bytes", descending: true, columns: HOLDERS, key: (row) => row.id, empty: "Nobody holds a payload now." });
  holders.element.style.maxHeight = "52vh";
  const holderCard = card("By holder", null, holders.element);
  const caps = new Table({ label: "Capabilities", columns: CAPS, key: (row) => `${row.app} ${row.capability}`, empty: "Nobody holds a payload now." });
  caps.element.style.maxHeight = "52vh";
  const field = searchField("Search capabilities", (words) => { state.words = words; list(); });
  const capCard = card("Who may access what", field, caps.element);
  const none = nothingDeployed();
  const cols = h("div", { class: "cols" }, capCard.element, holderCard.element);
  const content = h("div", { class: "stack" }, poolCard.element, cols);

  function list() {
    const fits = (row) => !state.words || [row.holder, row.state, row.app, row.invocation ?? "", String(row.buffer)].some((value) => value.toLowerCase().includes(state.words));
    const rows = state.rows.filter(fits);
    caps.set(rows);
    holders.set(byHolder(rows));
    capCard.note(f.plural(rows.length, "capability").replace("capabilitys", "capabilities"));
  }

  return {
    element: h("div", {}, head.element, none, content),
    update(_, params) {
      const names = model.apps.map((app) => app.name);
      state.app = names.includes(params.get("app")) ? params.get("app") : null;
      choice.update(names, state.app);
      none.classList.toggle("hidden", !model.overview || names.length > 0);
      content.classList.toggle("hidden", names.length === 0);
      pools.set(state.app ? model.apps.filter((app) => app.name === state.app) : model.apps);
      pools.select(state.app);
    },
    async tick() {
      if (model.apps.length === 0) return;
      const answer = await get(state.app ? `/v1/caps?app=${encodeURIComponent(state.app)}` : "/v1/caps");
      state.rows = answer.capabilities.slice(0, ROWS_MAX);
      list();
    },
  };
}
