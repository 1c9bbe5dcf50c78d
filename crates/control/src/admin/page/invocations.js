// Recent invocations and what they cost, hop by hop.

import { change, get } from "./api.js";
import { perform } from "./dialogs.js";
import { attr, button, h, text } from "./dom.js";
import * as f from "./format.js";
import { appChoice, card, heading, searchField } from "./scope.js";
import { Table, pickCell, tagCell } from "./table.js";

const kindOf = (status) => (status >= 500 ? "bad" : status >= 400 ? "warn" : "good");

/**
 * The calls of an invocation as a tree. Receipts list calls as they end, and a call ends after those that it made: so each
 * takes, of those before it that nobody took yet, the ones that its function made.
 */
export function tree(hops) {
  let open = [];
  for (const hop of hops) {
    const mine = open.filter((one) => one.hop.caller === hop.function);
    open = open.filter((one) => one.hop.caller !== hop.function);
    open.push({ hop, children: mine });
  }
  return open;
}

/** Rows from the outside in, each with where its time lies in that of its caller: one call after the other. */
export function lanes(receipt) {
  const rows = [];
  const walk = (nodes, depth, from, until) => {
    const all = nodes.reduce((sum, node) => sum + node.hop.wall_ns, 0);
    // Calls that ran side by side took longer together than their caller did: they begin together then.
    const beside = all > until - from;
    let at = beside ? from : from + (until - from - all) / 2;
    for (const node of nodes) {
      const end = Math.min(at + node.hop.wall_ns, until);
      rows.push({ hop: node.hop, depth, from: at, until: end });
      walk(node.children, depth + 1, at, end);
      if (!beside) at = end;
    }
  };
  walk(tree(receipt.hops), 0, 0, receipt.wall_ns);
  return rows;
}

/** From the start of the outermost calls to their end: around it lie the gateway, rings and waiting. */
function extent(rows) {
  const outer = rows.filter((row) => row.depth === 0);
  const from = Math.min(...outer.map((row) => row.from));
  return outer.length > 0 ? [from, Math.max(...outer.map((row) => row.until), from + 1)] : [0, 1];
}

function waterfall(rows) {
  const [start, end] = extent(rows);
  const all = end - start;
  const top = h("div", { class: "row top" }, h("span", {}, "Call"), h("span", {}, `0 to ${f.nanos(all)}`), ...["Time", "CPU", "Handed over"].map((title) => h("span", { class: "num" }, title)));
  const drawn = rows.slice(0, 400).map(({ hop, depth, from, until }) => {
    const bar = h("i", { class: kindOf(hop.status) === "good" ? undefined : "bad" });
    bar.style.left = `${(100 * (from - start)) / all}%`;
    bar.style.width = `${(100 * (until - from)) / all}%`;
    const cpu = h("i", { class: "cpu" });
    cpu.style.left = bar.style.left;
    cpu.style.width = `${(100 * Math.min(hop.cpu_ns, until - from)) / all}%`;
    const name = h("span", { title: `${hop.caller} → ${hop.function}, operation ${hop.operation}, status ${hop.status}` }, hop.function, hop.node ? h("span", { class: "dim" }, ` @ ${hop.node}`) : "", hop.operation > 0 ? h("span", { class: "dim" }, ` ${hop.operation}`) : "");
    name.style.paddingLeft = `${Math.min(depth, 12) * 14}px`;
    return h("div", { class: "row" }, name, h("span", { class: "lane", "aria-hidden": "true" }, bar, cpu), ...[f.nanos(hop.wall_ns), f.nanos(hop.cpu_ns), f.bytes(hop.bytes_handed)].map((value) => h("span", { class: "num" }, value)));
  });
  return h("div", { class: "fall" }, top, drawn);
}

const COLUMNS = (choose) => [
  { id: "id", title: "Invocation", draw: (cell, row) => pickCell(cell, row.invocation, () => choose(row)), class: "mono" },
  { id: "fn", title: "Function", value: (row) => `${row.app}/${row.function}`, show: (row) => `${row.app}/${row.function}` },
  { id: "status", title: "Status", value: (row) => row.status, draw: (cell, row) => tagCell(cell, String(row.status), kindOf(row.status)) },
  { id: "time", title: "Time", class: "r", value: (row) => row.wall_ns, show: (row) => f.nanos(row.wall_ns) },
  { id: "hops", title: "Calls", class: "r", value: (row) => row.hops.length, show: (row) => String(row.hops.length) },
  { id: "handed", title: "Handed over", class: "r", value: (row) => row.bytes_handed, show: (row) => f.bytes(row.bytes_handed) },
];

export function invocations({ go, model, again }) {
  const state = { receipts: [], first: null, chosen: null, app: null, words: "", shown: null };
  const choice = appChoice(go, "invocations", true);
  const record = button("", () => setRecording());
  const head = heading("Invocations", choice.element, record);
  const choose = (row) => go("invocations", { id: row.invocation }, true);
  const table = new Table({ label: "Recent invocations", columns: COLUMNS(choose), key: (row) => row.invocation, pick: choose });
  table.element.style.maxHeight = "76vh";
  const field = searchField("Search invocations", (words) => { state.words = words; list(); });
  const listCard = card("Recent", field, table.element);
  const facts = h("dl", { class: "figures flat" });
  const fall = h("div", {});
  const detail = card("What it cost", null, facts, fall, h("p", { class: "body note" }, "Receipts tell how long calls took, not when they began: calls are drawn one after the other, in the middle of their caller. Orange is CPU time."));
  detail.element.classList.add("hidden");
  const element = h("div", {}, head.element, h("div", { class: "cols even" }, listCard.element, detail.element));

  function setRecording() {
    const on = !model.overview?.recording;
    const question = on ? { title: "Record receipts", text: "From now on the node measures what each invocation costs. That itself costs each call a few clock reads.", action: "Record" } : null;
    perform(question, () => change("PUT", "/v1/recording", { on })).then(again);
  }

  function list() {
    const { words, app } = state;
    const fits = (row) => (!app || row.app === app) && (!words || row.invocation.includes(words) || `${row.app}/${row.function}`.includes(words) || String(row.status) === words);
    const rows = state.receipts.filter(fits);
    const none = model.overview?.recording ? "No invocation was recorded yet: send a request." : "Nothing is recorded. “Record receipts” has the node measure what invocations cost from now on.";
    table.set(rows, state.receipts.length > 0 ? "No invocation fits." : none);
    table.select(state.chosen);
    listCard.note(rows.length > 0 ? `the last ${rows.length}` : "");
  }

  function show() {
    const receipt = state.receipts.find((row) => row.invocation === state.chosen) ?? (state.shown?.invocation === state.chosen ? state.shown : null);
    detail.element.classList.toggle("hidden", !receipt);
    if (!receipt || receipt === state.shown) return;
    const same = state.shown?.invocation === receipt.invocation && state.shown.hops.length === receipt.hops.length;
    state.shown = receipt;
    if (same) return;
    detail.note(`${receipt.app}/${receipt.function} ${receipt.invocation}`);
    const rows = lanes(receipt);
    const [start, end] = extent(rows);
    const pairs = [
      ["Status", String(receipt.status), ""], ["Time", f.nanos(receipt.wall_ns), ""], ["In functions", f.nanos(end - start), ""], ["CPU", f.nanos(receipt.cpu_ns), ""], ["Handed over", f.bytes(receipt.bytes_handed), ""],
      ["Copied", f.bytes(receipt.bytes_copied), `in ${f.count(receipt.copies)}`], ["Crossings", f.count(receipt.crossings), ""], ["Switches", f.count(receipt.switches), ""], ...away(receipt),
    ];
    facts.replaceChildren(...pairs.map(([name, value, small]) => h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, value, h("small", {}, small)))));
    fall.replaceChildren(waterfall(rows));
  }

  return {
    element,
    update(_, params) {
      state.app = params.get("app");
      state.chosen = params.get("id") ?? state.first;
      choice.update(model.apps.map((app) => app.name), state.app);
      const on = model.overview?.recording;
      record.classList.toggle("hidden", on === undefined);
      text(record, on ? "Stop recording" : "Record receipts");
      attr(record, "class", `button ${on ? "" : "primary"}${on === undefined ? " hidden" : ""}`);
      list();
      show();
    },
    async tick() {
      // What is still under way has no cost yet.
      state.receipts = (await get("/v1/receipts")).receipts.filter((row) => row.status > 0);
      // Something to look at, and the same until somebody chooses.
      state.first ??= state.receipts[0]?.invocation ?? null;
      state.chosen ??= state.first;
      list();
      show();
    },
  };
}

function away(receipt) {
  const hops = receipt.hops.filter((hop) => hop.node);
  if (hops.length === 0) return [];
  const sum = (field) => hops.reduce((all, hop) => all + (hop.carried?.[field] ?? 0), 0);
  return [["To other nodes", f.count(hops.length), f.plural(hops.length, "call").split(" ")[1]], ["Inline", f.bytes(sum("inline_bytes")), ""], ["Pulled", f.bytes(sum("referenced_bytes")), "by reference"]];
}
