// The versions of one app, and what can be done with them.

import { h } from "./dom.js";
import * as f from "./format.js";
import { card } from "./scope.js";
import { Table, tagCell } from "./table.js";

/** A card with the versions of an app. */
export function versionCard({ remove }) {
  const state = { app: null };
  const columns = [
    { id: "version", title: "Version", value: (row) => row.version, show: (row) => String(row.version) },
    { id: "state", title: "State", draw: (cell, row) => tagCell(cell, row.version === state.app?.version ? "running" : "kept", row.version === state.app?.version ? "good" : "") },
    { id: "functions", title: "Functions", class: "r", show: (row) => f.count(Object.keys(row.functions).length) },
    { id: "changed", title: "Changed since the one before", show: (row) => row.changed },
  ];
  const table = new Table({ label: "Versions", sort: "version", descending: true, columns, key: (row) => String(row.version), empty: "Only the running version is known to this node." });
  const versions = card("Versions", remove, table.element);

  function changed(rows) {
    return rows.map((row, at) => {
      const before = rows[at - 1]?.functions;
      if (!before) return { ...row, changed: "" };
      const names = Object.keys(row.functions).filter((name) => before[name] !== row.functions[name]);
      const gone = Object.keys(before).filter((name) => !(name in row.functions)).map((name) => `without ${name}`);
      return { ...row, changed: [...names, ...gone].join(", ") || "the manifest only" };
    });
  }

  return {
    element: h("div", { class: "hidden" }, versions.element),
    show(app) {
      if (app?.name !== state.app?.name) table.set([]);
      state.app = app;
      this.element.classList.toggle("hidden", !app);
      versions.note(app ? app.name : "");
    },
    set(app, answer) {
      if (app.name === state.app?.name) table.set(changed(answer?.versions ?? []));
    },
  };
}
