// What goes on now: figures, the graph of an app, what is chosen in it, and all functions.

import { get, path } from "./api.js";
import { h, redrawSpark, spark, text } from "./dom.js";
import * as f from "./format.js";
import { Picture } from "./graph.js";
import { Side } from "./side.js";
import { appChoice, card, heading, nothingDeployed, searchField } from "./scope.js";
import { Table, pickCell, tagCell } from "./table.js";

const FIGURES = [
  ["rate", "Requests", (v) => f.count(v.rate), "/s"],
  ["errorRate", "Failures", (v) => f.count(v.errorRate), "/s"],
  ["handed", "Handed over", (v) => f.bytes(v.handed), "/s"],
  ["inFlight", "In flight", (v) => f.count(v.inFlight), ""],
  ["queued", "Waiting", (v) => f.count(v.queued), ""],
  ["ready", "Replicas", (v) => `${f.count(v.ready)}`, (v) => `of ${f.count(v.replicas)}`],
  ["cpu", "CPU", (v) => (v.cpu === undefined ? "–" : v.cpu.toFixed(2)), "cores"],
  ["poolUsed", "Pool in use", (v) => f.bytes(v.poolUsed), (v) => `of ${f.bytes(v.poolBytes)}`],
];

function figures() {
  const made = FIGURES.map(([field, title, show, unit]) => {
    const value = h("span", {});
    const small = h("small", {});
    const line = spark([]);
    return { field, show, unit, value, small, line, element: h("div", { class: "figure" }, h("dt", {}, title), h("dd", {}, value, small), line) };
  });
  const element = h("dl", { class: "figures" }, made.map((one) => one.element));
  return {
    element,
    update(model, app) {
      const apps = app === null ? model.apps : model.apps.filter((one) => one.name === app);
      const values = model.figures(apps, app === null);
      for (const one of made) {
        const absent = one.field === "handed" && values.handed === undefined;
        one.element.classList.toggle("hidden", absent);
        if (absent) continue;
        text(one.value, one.show(values));
        text(one.small, typeof one.unit === "function" ? one.unit(values) : one.unit);
        const failing = one.field === "errorRate" && values.errorRate > 0;
        one.element.classList.toggle("bad", failing);
        one.line.classList.toggle("bad", failing);
        redrawSpark(one.line, model.series(app, one.field));
      }
    },
  };
}

const COLUMNS = (choose) => [
  { id: "name", title: "Function", value: (fn) => fn.key, draw: (cell, fn) => pickCell(cell, fn.key, () => choose(fn)) },
  { id: "as", title: "Runs as", class: "hide-narrow", value: (fn) => fn.raw.runs_as, show: (fn) => fn.raw.runs_as },
  { id: "state", title: "Replicas", value: (fn) => fn.replicas.length, draw: stateCell },
  { id: "rate", title: "Calls/s", class: "r", value: (fn) => fn.rate, show: (fn) => f.count(fn.rate) },
  { id: "errors", title: "Failures/s", class: "r", value: (fn) => fn.errorRate, draw: errorCell },
  { id: "p50", title: "p50", class: "r", value: (fn) => fn.p50 ?? fn.mean, show: (fn) => (fn.p50 === undefined && fn.mean !== undefined ? `≈ ${f.nanos(fn.mean)}` : f.nanos(fn.p50)) },
  { id: "p99", title: "p99", class: "r", value: (fn) => fn.p99, show: (fn) => f.nanos(fn.p99) },
  { id: "flight", title: "In flight", class: "r", value: (fn) => fn.inFlight, show: (fn) => f.count(fn.inFlight) },
  { id: "queued", title: "Waiting", class: "r", value: (fn) => fn.queued, show: (fn) => f.count(fn.queued) },
  { id: "cpu", title: "CPU", class: "r hide-narrow", value: (fn) => fn.cpu, show: (fn) => (fn.cpu === undefined ? "–" : f.percent(fn.cpu)) },
  { id: "calls", title: "Calls", class: "r", value: (fn) => fn.calls, show: (fn) => f.count(fn.calls) },
  { id: "failed", title: "Failed", class: "r hide-narrow", value: (fn) => fn.errors, show: (fn) => f.count(fn.errors) },
];

function stateCell(cell, fn) {
  const backoff = fn.replicas.filter((replica) => replica.state === "backoff").length;
  if (backoff > 0) tagCell(cell, `${backoff} in back-off`, "bad");
  else if (fn.replicas.length === 0) tagCell(cell, "none", "");
  else if (fn.ready < fn.replicas.length) tagCell(cell, `${fn.ready} of ${fn.replicas.length} ready`, "warn");
  else tagCell(cell, `${fn.ready} ready`, "good");
}

function errorCell(cell, fn) {
  text(cell, f.count(fn.errorRate));
  cell.classList.toggle("zero", !(fn.errorRate > 0));
  cell.classList.toggle("error", fn.errorRate > 0);
}

export function live({ go, again }) {
  const state = { picture: null, graphs: new Map(), wanted: null, chosen: null, model: null, words: "" };
  const head = heading("Live");
  const choice = appChoice(go, "live", true);
  head.element.append(choice.element);
  const top = figures();

  const choose = (selected) => {
    if (selected?.fn) go("live", { app: state.wanted, fn: selected.fn, edge: null }, true);
    else if (selected?.edge) go("live", { app: state.wanted, fn: null, edge: selected.edge.join(">") }, true);
    else go("live", { fn: null, edge: null }, true);
  };
  const legend = h("div", { class: "legend" },
    h("span", {}, h("i", {}), "calls"), h("span", {}, h("i", { class: "bytes" }), "bytes handed over by capability"), h("span", {}, h("i", { class: "bad" }), "failures"));
  const board = h("div", {});
  const graphCard = card("Functions and calls", legend, board);
  const side = new Side({ choose, again, go });
  const sideCard = h("aside", { class: "card", "aria-label": "What is chosen" }, h("div", { class: "body side" }, side.element));

  const table = new Table({
    label: "Functions", sort: "rate", descending: true, empty: "No function has this in its name.", key: (fn) => fn.key,
    columns: COLUMNS((fn) => go("live", { app: fn.app, fn: fn.name, edge: null })), pick: (fn) => go("live", { app: fn.app, fn: fn.name, edge: null }),
  });
  const field = searchField("Search functions", (words) => { state.words = words; list(); });
  const tableCard = card("Functions", field, table.element);
  const content = h("div", { class: "stack" }, top.element, h("div", { class: "cols" }, graphCard.element, sideCard), tableCard.element);
  const none = nothingDeployed();
  const element = h("div", {}, head.element, none, content);
  none.classList.add("hidden");
  content.classList.add("hidden");

  function list() {
    if (!state.model) return;
    const of = state.scope === null ? state.model.functions : state.model.functions.filter((fn) => fn.app === state.scope);
    const found = state.words ? of.filter((fn) => fn.key.toLowerCase().includes(state.words) || fn.raw.runs_as.includes(state.words)) : of;
    table.set(found);
    tableCard.note(found.length === of.length ? String(of.length) : `${found.length} of ${of.length}`);
  }

  /** Draws the app's graph if it is known, and has it asked for otherwise. */
  function draw(app) {
    const id = `${app.name}@${app.version}`;
    const graph = state.graphs.get(app.name);
    if (graph?.id !== id) return;
    if (state.picture?.graph !== graph.graph) {
      state.picture?.end();
      state.picture = new Picture(graph.graph, choose);
      board.replaceChildren(state.picture.element);
      state.picture.fit();
    }
    state.picture.update(app);
    state.picture.select(state.chosen);
  }

  return {
    element,
    update(model, params) {
      if (!model.overview) return;
      state.model = model;
      const names = model.apps.map((app) => app.name);
      none.classList.toggle("hidden", names.length > 0);
      content.classList.toggle("hidden", names.length === 0);
      state.scope = names.includes(params.get("app")) ? params.get("app") : null;
      choice.update(names, state.scope);
      head.note(names.length === 1 ? "" : f.plural(names.length, "app"));
      if (names.length === 0) return;
      // With all apps in view, the graph stays with the one that was the busiest when somebody first looked.
      if (state.scope !== null) state.wanted = state.scope;
      else if (!names.includes(state.wanted)) state.wanted = busiest(model);
      const [fn, edge] = [params.get("fn"), params.get("edge")];
      state.chosen = fn ? { fn } : edge ? { edge: edge.split(">") } : null;
      top.update(model, state.scope);
      const app = model.apps.find((one) => one.name === state.wanted);
      graphCard.note(names.length > 1 ? `${app.name} ${app.version}` : `version ${app.version}`);
      draw(app);
      side.update(app, state.chosen, state.graphs.get(app.name)?.graph);
      table.select(fn ? `${app.name}/${fn}` : null);
      list();
    },
    async tick() {
      const app = state.model?.apps.find((one) => one.name === state.wanted);
      if (!app || state.graphs.get(app.name)?.id === `${app.name}@${app.version}`) return;
      try {
        const graph = await get(path("apps", app.name, "graph"));
        state.graphs.set(app.name, { id: `${app.name}@${app.version}`, graph });
        if (state.graphs.size > 32) state.graphs.delete(state.graphs.keys().next().value);
        draw(app);
        side.update(app, state.chosen, graph);
      } catch (trouble) {
        if (trouble.kind !== "absent") throw trouble;
        board.replaceChildren(h("p", { class: "empty" }, "This node does not tell the app’s graph."));
      }
    },
    end: () => state.picture?.end(),
  };
}

function busiest(model) {
  const load = (app) => app.functions.reduce((all, fn) => all + (fn.rate ?? 0), 0) + app.functions.length / 1e6;
  return model.apps.reduce((best, app) => (load(app) > load(best) ? app : best)).name;
}

