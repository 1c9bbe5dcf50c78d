// Apps, the versions of them that are kept, and who gets which share of the requests.

import { change, get, path } from "./api.js";
import { perform } from "./dialogs.js";
import { button, h } from "./dom.js";
import * as f from "./format.js";
import { appChoice, card, heading, nothingDeployed, searchField } from "./scope.js";
import { Table, pickCell, tagCell } from "./table.js";
import { versionCard } from "./versions.js";

export function deployments({ go, model, again }) {
  const state = { app: null, words: "" };
  const choice = appChoice(go, "deployments", true);
  const head = heading("Deployments", choice.element);
  const choose = (app) => go("deployments", { app: app.name });
  const columns = [
    { id: "app", title: "App", value: (app) => app.name, draw: (cell, app) => pickCell(cell, app.name, () => choose(app)) },
    { id: "version", title: "Version", class: "r", value: (app) => app.version, show: (app) => String(app.version) },
    { id: "state", title: "State", value: (app) => app.error ?? "", draw: (cell, app) => tagCell(cell, app.error ? "not started" : "running", app.error ? "bad" : "good") },
    { id: "functions", title: "Functions", class: "r", value: (app) => app.functions.length, show: (app) => (app.error ? "–" : f.count(app.functions.length)) },
    { id: "replicas", title: "Replicas", class: "r", value: replicas, show: (app) => f.count(replicas(app)) },
    { id: "pool", title: "Pool", class: "r hide-narrow", value: (app) => app.pool?.pool_bytes, show: (app) => f.bytes(app.pool?.pool_bytes) },
    { id: "why", title: "", show: (app) => app.error ?? "" },
  ];
  const table = new Table({ label: "Apps", sort: "app", columns, key: (app) => app.name, pick: choose, empty: "No app has this in its name." });
  table.element.style.maxHeight = "44vh";
  const field = searchField("Search apps", (words) => { state.words = words; list(); });
  const remove = button("Remove the app", () => {
    const { app } = state;
    perform({ title: `Remove ${app}`, text: `${app} stops and is forgotten, with its routes; its versions cannot be brought back.`, action: "Remove", danger: true },
      () => change("DELETE", path("apps", app))).then((done) => { if (done) go("deployments", { app: null }); again(); });
  }, "danger small");
  const appsCard = card("Apps", field, table.element);
  const versions = versionCard({ again, remove });
  const none = nothingDeployed();

  function list() {
    const failed = (model.overview?.failed ?? []).filter((one) => model.apps.every((app) => app.name !== one.app));
    const all = [...model.apps, ...failed.map(({ app, error }) => ({ name: app, version: 0, functions: [], error }))];
    const rows = all.filter((app) => !state.words || app.name.includes(state.words));
    table.set(rows);
    table.select(state.app);
    appsCard.note(String(rows.length));
    none.classList.toggle("hidden", !model.overview || all.length > 0);
    appsCard.element.classList.toggle("hidden", all.length === 0);
  }

  return {
    element: h("div", {}, head.element, none, h("div", { class: "stack" }, appsCard.element, versions.element)),
    update(_, params) {
      const names = model.apps.map((app) => app.name);
      state.app = params.get("app") ?? (names.length === 1 ? names[0] : null);
      choice.update(names, state.app);
      list();
      versions.show(model.apps.find((app) => app.name === state.app) ?? null);
    },
    async tick() {
      const app = model.apps.find((one) => one.name === state.app);
      if (!app) return;
      try {
        versions.set(app, await get(`${path("apps", app.name)}/versions`));
      } catch (trouble) {
        if (trouble.kind !== "absent") throw trouble;
        versions.set(app, null);
      }
    },
  };
}

const replicas = (app) => app.functions.reduce((all, fn) => all + fn.replicas.length, 0);
