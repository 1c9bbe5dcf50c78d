// The nodes of the cluster, or the one that there is.

import { change, path } from "./api.js";
import { perform } from "./dialogs.js";
import { button, h, text } from "./dom.js";
import * as f from "./format.js";
import { Facts, card, heading } from "./scope.js";
import { Table, tagCell } from "./table.js";

const functionsOf = (row) => Object.values(row.apps).reduce((all, app) => all + Object.keys(app.functions).length, 0);
const troubles = (row) => Object.entries(row.apps).filter(([, app]) => app.error).map(([name, app]) => `${name}: ${app.error}`);

export function nodes({ model, again }) {
  const drain = (row) => perform({
    title: row.draining ? `Have ${row.name} take work again` : `Drain ${row.name}`,
    text: row.draining ? "The planner gives it functions again." : "Its functions move to the other nodes; what is in flight there goes on. It stays a member of the cluster.",
    action: row.draining ? "Take work" : "Drain", danger: !row.draining,
  }, () => change(row.draining ? "DELETE" : "POST", `${path("nodes", row.name)}/drain`)).then(again);

  const columns = [
    { id: "name", title: "Node", value: (row) => row.name, show: (row) => (row.name === model.overview?.cluster?.node ? `${row.name} (this one)` : row.name) },
    { id: "state", title: "State", value: (row) => Number(row.draining), draw: (cell, row) => {
      const wrong = troubles(row);
      if (wrong.length > 0) tagCell(cell, "cannot run all it should", "bad");
      else tagCell(cell, row.draining ? "draining" : "alive", row.draining ? "warn" : "good");
      cell.title = wrong.join("\n");
    } },
    { id: "cpu", title: "CPU", class: "r", value: (row) => row.cpu, show: (row) => f.percent(row.cpu / 1000) },
    { id: "cores", title: "Cores", class: "r", value: (row) => row.cores, show: (row) => String(row.cores) },
    { id: "memory", title: "Memory", class: "r", value: (row) => row.memory, show: (row) => f.bytes(row.memory) },
    { id: "functions", title: "Functions", class: "r", value: functionsOf, show: (row) => f.count(functionsOf(row)) },
    { id: "flight", title: "In flight", class: "r", value: (row) => row.in_flight, show: (row) => f.count(row.in_flight) },
    { id: "queued", title: "Waiting", class: "r", value: (row) => row.queued, show: (row) => f.count(row.queued) },
    { id: "gateway", title: "Gateway", class: "mono hide-narrow", value: (row) => row.gateway, show: (row) => row.gateway },
    { id: "version", title: "Version", class: "hide-narrow", value: (row) => row.version, show: (row) => row.version },
    { id: "act", title: "", class: "r", draw: (cell, row) => {
      let act = cell.firstElementChild;
      if (!act) cell.append((act = button("", () => drain(act.row), "small")));
      act.row = row;
      text(act, row.draining ? "Take work" : "Drain");
    } },
  ];
  const table = new Table({ label: "Nodes", sort: "name", columns, key: (row) => row.name });
  const clusterCard = card("Cluster", null, table.element);
  const facts = new Facts("wide");
  const stop = button("Drain and stop", () => perform(
    { title: "Drain and stop this node", text: "It takes no new connections, finishes what is in flight within 30 seconds, and ends. This page will not reach it any more.", action: "Stop the node", danger: true },
    () => change("POST", "/v1/drain")), "danger");
  const own = card("This node", stop, h("div", { class: "body" }, facts.element));
  const failed = h("div", { class: "body" });
  const failedCard = card("Apps that could not be started", null, failed);
  const head = heading("Nodes");
  const alone = h("p", { class: "note" }, "This node is in no cluster. ", h("code", {}, "baton node --cluster nats://HOST:PORT --name NAME"), " starts one that is.");

  return {
    element: h("div", {}, head.element, h("div", { class: "stack" }, clusterCard.element, own.element, failedCard.element, alone)),
    update() {
      const { overview } = model;
      if (!overview) return;
      const rows = overview.cluster?.nodes ?? [];
      clusterCard.element.classList.toggle("hidden", !overview.cluster);
      alone.classList.toggle("hidden", Boolean(overview.cluster));
      table.set(rows);
      head.note(overview.cluster ? f.plural(rows.length, "node") : "");
      const { node, totals } = overview;
      facts.set([
        ["Version", node.version], ["Process", String(node.pid)], ["Up", f.span(node.uptime_s)], ["Gateway", node.gateway], ["Admin API", node.admin], ["State directory", node.home],
        ["CPU of the node’s process", model.nodeCpu === undefined ? undefined : `${model.nodeCpu.toFixed(2)} cores`],
        ["Its memory", f.bytes(overview.processes?.find((one) => one.pid === node.pid)?.resident_bytes)], ["Processes of replicas and cells", f.count((overview.processes?.length ?? 1) - 1)],
        ["Invocations", f.count(totals.invocations)], ["Of these failed", f.count(totals.failures)], ["Replicas that died", f.count(totals.replica_deaths)], ["Descriptors refused", f.count(totals.bad_descriptors)],
      ]);
      failedCard.element.classList.toggle("hidden", overview.failed.length === 0);
      failed.replaceChildren(...overview.failed.map(({ app, error }) => h("p", {}, h("b", {}, app), h("span", { class: "error" }, ` ${error}`))));
    },
  };
}
