// The versions of one app: which answer, with which share of the requests, and what can be done with them.

import { change, path } from "./api.js";
import { perform } from "./dialogs.js";
import { button, h, text } from "./dom.js";
import * as f from "./format.js";
import { card } from "./scope.js";
import { Table, tagCell } from "./table.js";

const KINDS = { serving: "good", canary: "brand", standby: "", draining: "warn", stored: "", undone: "bad" };

/** What is new in each version, against the one before it. */
export function changed(rows) {
  return rows.map((row, at) => {
    const before = rows[at - 1]?.functions;
    if (!before) return { ...row, changed: "" };
    const names = Object.keys(row.functions).filter((name) => before[name] !== row.functions[name]);
    const gone = Object.keys(before).filter((name) => !(name in row.functions)).map((name) => `without ${name}`);
    return { ...row, changed: [...names, ...gone].join(", ") || "the manifest only" };
  });
}

const when = (row) => (row.deployed_ms > 0 ? new Date(row.deployed_ms).toLocaleString() : "–");

/** A card with the versions of an app; `remove` is a button that belongs to it. */
export function versionCard({ again, remove }) {
  const state = { app: null, rows: [] };
  const at = (...rest) => `${path("apps", state.app.name)}/${rest.join("/")}`;
  const then = (done) => { if (done) again(); };

  const promote = (row) => perform({ title: `Promote version ${row.version}`, text: `All requests of ${state.app.name} go to version ${row.version} from now on; the version before finishes what it has.`, action: "Promote" },
    () => change("POST", at("promote"))).then(then);
  const rollBack = (row) => {
    const canary = row.state === "canary";
    const to = canary ? serving() : row;
    return perform({ title: canary ? `Undo version ${row.version}` : `Roll back to version ${row.version}`, text: `All requests of ${state.app.name} go to version ${to?.version ?? "before"} again. What is in flight is finished by the version that has it.`, action: "Roll back", danger: true },
      () => change("POST", at("rollback"), canary ? {} : { version: row.version })).then(then);
  };
  const serving = () => state.rows.find((row) => row.state === "serving");

  const columns = [
    { id: "version", title: "Version", value: (row) => row.version, show: (row) => String(row.version) },
    { id: "state", title: "State", draw: (cell, row) => {
      const word = row.state || (row.version === state.app?.version ? "serving" : "stored");
      tagCell(cell, word, KINDS[word] ?? "");
      cell.title = row.undone ?? "";
    } },
    { id: "share", title: "Requests", class: "r", value: (row) => parseFloat(row.share) || 0, show: (row) => row.share ?? "–" },
    { id: "count", title: "Answered", class: "r", value: (row) => row.requests, show: (row) => f.count(row.requests) },
    { id: "failed", title: "Failed", class: "r", value: (row) => row.failures, draw: (cell, row) => {
      text(cell, f.count(row.failures));
      cell.classList.toggle("error", row.failures > 0);
    } },
    { id: "replicas", title: "Replicas", class: "r hide-narrow", value: (row) => row.replicas, show: (row) => f.count(row.replicas) },
    { id: "when", title: "Deployed", value: (row) => row.deployed_ms, show: (row) => `${when(row)}${row.deployed_by ? ` by ${row.deployed_by}` : ""}` },
    { id: "changed", title: "What changed", class: "wrap", show: (row) => row.undone ?? row.changed },
    { id: "act", title: "", class: "r", draw: actions },
  ];

  function actions(cell, row) {
    const wanted = row.state === "canary" ? "promote" : ["stored", "standby", "undone"].includes(row.state) ? "back" : "";
    cell.row = row;
    if (cell.dataset.wanted === wanted) return;
    cell.dataset.wanted = wanted;
    cell.replaceChildren(...(wanted === "promote" ? [h("span", { class: "tags" }, button("Promote", () => promote(cell.row), "small primary"), button("Undo", () => rollBack(cell.row), "small"))]
      : wanted === "back" ? [button("Roll back to it", () => rollBack(cell.row), "small")] : []));
  }

  const table = new Table({ label: "Versions", sort: "version", descending: true, columns, key: (row) => String(row.version), empty: "This node tells nothing of the app’s versions." });
  const split = trafficForm();
  const versions = card("Versions", remove, table.element, split.element);

  /** Giving a part of the requests to one other version. */
  function trafficForm() {
    const which = h("select", {});
    const share = h("input", { type: "number", min: "0", max: "100", step: "0.01", value: "10", required: true });
    const set = () => {
      const [lead, other] = [serving(), Number(which.value)];
      const part = Number(share.value);
      if (!lead || !(part >= 0 && part <= 100)) return;
      const shares = { [lead.version]: `${Number((100 - part).toFixed(2))}%`, [other]: `${part}%` };
      perform({ title: "Split the requests", text: `Version ${other} gets ${part} % of the requests of ${state.app.name}, version ${lead.version} the rest.`, action: "Split" },
        () => change("PUT", at("traffic"), { shares })).then(then);
    };
    const element = h("form", { class: "body hidden", onsubmit: (event) => { event.preventDefault(); set(); } },
      h("div", { class: "actions" }, h("label", {}, "Version", which), h("label", {}, "gets, in %", share), h("button", { type: "submit", class: "button" }, "Split the requests")));
    let known = "";
    return { element, update: (rows) => {
      const others = rows.filter((row) => row.state && row.state !== "serving" && row.state !== "draining").map((row) => row.version);
      element.classList.toggle("hidden", others.length === 0 || !serving());
      if (others.join() === known) return;
      known = others.join();
      which.replaceChildren(...others.reverse().map((version) => h("option", { value: version }, String(version))));
    } };
  }

  return {
    element: h("div", { class: "hidden" }, versions.element),
    show(app) {
      if (app?.name !== state.app?.name) {
        state.rows = [];
        table.set([]);
        split.update([]);
      }
      state.app = app;
      this.element.classList.toggle("hidden", !app);
      versions.note(app ? app.name : "");
    },
    /** Shows an answer, or that there is none. */
    set(app, answer) {
      if (app.name !== state.app?.name) return;
      state.rows = changed(answer?.versions ?? []);
      table.set(state.rows);
      split.update(state.rows);
    },
  };
}
