// What is known about what is chosen in the graph: a function, a call, or else the app.

import { change, path } from "./api.js";
import { perform } from "./dialogs.js";
import { button, h } from "./dom.js";
import * as f from "./format.js";
import { Facts } from "./scope.js";

const PHASES = [["queue", "waited"], ["load", "load"], ["spawn", "spawn"], ["init", "init"], ["handler", "handler"]];
const BARS = 24;

/** How long calls took, as bars over classes of a logarithmic scale. */
function bars(buckets) {
  const finite = buckets.filter(([bound, n]) => n > 0 && bound < 1e15);
  if (finite.length === 0) return null;
  const low = Math.log(finite[0][0]);
  const high = Math.log(finite[finite.length - 1][0]);
  const counts = new Array(Math.min(BARS, finite.length)).fill(0);
  for (const [bound, n] of finite) {
    const at = high === low ? 0 : Math.round(((Math.log(bound) - low) / (high - low)) * (counts.length - 1));
    counts[at] += n;
  }
  const most = Math.max(...counts);
  const chart = h("div", { class: "hist", role: "img", "aria-label": `Latencies from ${f.nanos(finite[0][0])} to ${f.nanos(finite[finite.length - 1][0])}` },
    counts.map((n) => { const bar = h("i", {}); bar.style.height = `${(100 * n) / most}%`; return bar; }));
  return [chart, h("div", { class: "axis" }, h("span", {}, f.nanos(finite[0][0])), h("span", {}, f.nanos(finite[finite.length - 1][0])))];
}

function phases(cold) {
  const rows = PHASES.filter(([phase]) => cold[phase]?.count > 0);
  const most = Math.max(...rows.map(([phase]) => cold[phase].sum_us / cold[phase].count), 1);
  return rows.map(([phase, word]) => {
    const { count, sum_us: sum, max_us: max } = cold[phase];
    const fill = h("i", { class: phase === "handler" ? "soft" : phase === "queue" ? "hand" : undefined });
    fill.style.width = `${(100 * sum) / count / most}%`;
    return h("div", { class: "phase", title: `${count} times, the longest ${f.micros(max)}` }, h("b", {}, word), h("div", { class: "track" }, fill), h("span", { class: "num" }, f.micros(sum / count)));
  });
}

export class Side {
  constructor({ choose, again, go }) {
    Object.assign(this, { choose, again, go });
    this.element = h("div", {});
    this.what = "";
  }

  /** Shows what is chosen of an app; `graph` says what its manifest declares, if that is known yet. */
  update(app, chosen, graph) {
    this.app = app;
    const fn = chosen?.fn && app.functions.find((one) => one.name === chosen.fn);
    const edge = chosen?.edge && graph?.edges.find((one) => one.caller === chosen.edge[0] && one.callee === chosen.edge[1]);
    const what = `${app.name}@${app.version}/${graph ? 1 : 0}/${fn ? fn.name : edge ? `${edge.caller}>${edge.callee}` : ""}`;
    if (what !== this.what) {
      this.what = what;
      this.shown = fn ? this.ofFunction(fn, graph) : edge ? this.ofEdge(edge) : this.ofApp(app, graph);
    }
    this.shown(app);
  }

  close() {
    return button("Close", () => this.choose(null), "small");
  }

  /** A part that is only there when it has something to show; its content is made anew when `stamp` changes. */
  part(title) {
    const body = h("div", {});
    const element = h("div", { class: "hidden" }, h("h3", {}, title), body);
    let old;
    return { element, set: (stamp, make) => {
      if (stamp === old) return;
      old = stamp;
      const content = make();
      element.classList.toggle("hidden", !content || content.length === 0);
      body.replaceChildren(...[content ?? []].flat());
    } };
  }

  ofApp(_, graph) {
    const facts = new Facts();
    const routes = graph?.routes ?? [];
    this.element.replaceChildren(h("div", { class: "head" }, h("h2", {}, this.app.name)), facts.element,
      routes.length > 0 ? h("h3", {}, "Routes") : "",
      ...routes.slice(0, 12).map((route) => h("p", { class: "mono" }, h("span", { class: "dim" }, `${route.methods.join(" ") || "ANY"} `), route.path, h("span", { class: "dim" }, ` → ${route.function}`))),
      routes.length > 12 ? h("p", { class: "note" }, `and ${routes.length - 12} more`) : "",
      h("p", { class: "note" }, "Choose a function or a call in the graph to see more of it."),
      h("div", { class: "actions" }, button("Evict idle cells", () => this.evict(), "small"), button("Versions", () => this.go("deployments", { app: this.app.name, fn: null, edge: null }), "small")));
    return (app) => facts.set([
      ["Version", String(app.version)], ["Beside it", app.beside.length > 0 ? app.beside.map((version) => `version ${version}`).join(", ") : undefined], ["Functions", String(app.functions.length)],
      ["CPU", app.cpu === undefined ? undefined : `${app.cpu.toFixed(2)} cores`], ["Memory of processes", f.bytes(app.resident)],
      ["Trust", app.raw.trust], ["Hand-over", `${app.raw.wake === "ebpf" ? "by the kernel" : "by rings"}: ${app.raw.wake_because}`],
      ["Pool free", `${f.bytes(app.pool.free_bytes)} of ${f.bytes(app.pool.pool_bytes)}`], ["Buffers in use", f.count(app.pool.buffers_in_use)],
      ["Payloads put up", app.references?.put > 0 ? `${f.count(app.references.held)} held, ${f.count(app.references.got)} got` : undefined],
    ]);
  }

  ofEdge(edge) {
    const facts = new Facts();
    const end = (name) => (edge.caller === name && this.app.functions.every((fn) => fn.name !== name) ? h("b", {}, name) : button(name, () => this.choose({ fn: name }), "small"));
    this.element.replaceChildren(h("div", { class: "head" }, h("h2", {}, "Call"), this.close()),
      h("p", { class: "tags" }, end(edge.caller), " → ", end(edge.callee)), h("h3", {}, "Figures"), facts.element);
    return (app) => {
      const live = app.edges.find((one) => one.caller === edge.caller && one.callee === edge.callee);
      facts.set(live ? [
        ["Calls", `${f.count(live.calls)}${live.rate === undefined ? "" : `, ${f.rate(live.rate)}`}`], ["Failed", `${f.count(live.errors)}${live.errorRate > 0 ? `, ${f.rate(live.errorRate)}` : ""}`],
        ["A call takes", live.mean === undefined ? undefined : f.nanos(live.mean)], ["Handed over", f.bytes(live.bytes_handed)],
        ["… per second", live.bytesRate === undefined ? undefined : `${f.bytes(live.bytesRate)}/s`], ["… per call", live.calls > 0 ? f.bytes(live.bytes_handed / live.calls) : undefined],
      ] : [["Declared", "not called so far"]]);
    };
  }

  ofFunction(fn, graph) {
    const declared = graph?.nodes.find((node) => node.name === fn.name)?.declared;
    const facts = new Facts();
    const latency = this.part("Latency of requests");
    const cold = this.part("Cold starts, by phase");
    const replicas = this.part("Replicas");
    const calls = this.part("Calls");
    const scale = this.scale(fn);
    this.element.replaceChildren(h("div", { class: "head" }, h("h2", {}, fn.name), this.close()), facts.element, latency.element, cold.element, replicas.element, calls.element, scale.element,
      h("div", { class: "actions" }, button("Logs", () => this.go("logs", { app: fn.app, fn: fn.name, edge: null }), "small"), button("Invocations", () => this.go("invocations", { app: fn.app, fn: null, edge: null }), "small")));
    return (app) => {
      const now = app.functions.find((one) => one.name === fn.name);
      if (!now) return;
      const { raw } = now;
      facts.set([
        ["Runs as", raw.runs_as], ["Calls", `${f.count(now.calls)}${now.rate === undefined ? "" : `, ${f.rate(now.rate)}`}`],
        ["Failed", `${f.count(now.errors)}${now.errorRate > 0 ? `, ${f.rate(now.errorRate)}` : ""}`], ["Resets after a fault", raw.faults > 0 ? f.count(raw.faults) : undefined],
        ["In flight, waiting", `${f.count(now.inFlight)}, ${f.count(now.queued)}`], ["A call takes", now.mean === undefined ? undefined : f.nanos(now.mean)],
        ["Requests p50, p99", now.p50 === undefined ? undefined : `${f.nanos(now.p50)}, ${f.nanos(now.p99)}`], ["CPU", now.cpu === undefined ? undefined : `${now.cpu.toFixed(2)} cores`],
        ["Time-out", declared && f.nanos(declared.timeout_ms * 1e6)], ["Memory of a replica", declared && f.bytes(declared.memory_bytes)], ["At once in a replica", declared && f.count(declared.concurrency)],
        ["Scale", raw.scale ? `${raw.scale.min} to ${raw.scale.max}, wants ${raw.scale.wanted}` : declared && `${declared.scale_min} to ${declared.scale_max}`],
        ["Loaded in", raw.loaded ? `${f.nanos(raw.loaded.load_ns)}${raw.loaded.from_snapshot ? ", from a snapshot" : ""}` : undefined],
        ["Network", raw.network && raw.network.answered + raw.network.denied + raw.network.failed > 0 ? `${f.count(raw.network.answered)} answered, ${f.count(raw.network.denied)} denied, ${f.count(raw.network.failed)} failed` : undefined],
        ["May reach", declared?.network.length > 0 ? declared.network.join(", ") : undefined],
      ]);
      latency.set(raw.latency?.count, () => (raw.latency?.count > 0 ? bars(raw.latency.buckets) : null));
      const counted = raw.cold_starts && PHASES.map(([phase]) => raw.cold_starts[phase]?.count ?? 0);
      cold.set(String(counted), () => (counted?.some((n) => n > 0) ? h("div", { class: "phases" }, phases(raw.cold_starts)) : null));
      replicas.set(JSON.stringify(now.replicas), () => now.replicas.slice(0, 16).map(replicaLine));
      const near = (graph?.edges ?? []).filter((edge) => edge.caller === fn.name || edge.callee === fn.name);
      calls.set(near.length, () => (near.length > 0 ? h("div", { class: "tags" }, near.map((edge) => button(edge.caller === fn.name ? `→ ${edge.callee}` : `${edge.caller} →`, () => this.choose({ edge: [edge.caller, edge.callee] }), "small"))) : null));
      scale.update(now);
    };
  }

  /** Setting how many replicas there may be, where the node lets one. */
  scale(fn) {
    const field = (label, value) => h("label", {}, label, h("input", { type: "number", min: "0", max: "64", value }));
    const [least, most] = [field("At least", fn.raw.scale?.min), field("At most", fn.raw.scale?.max)];
    const number = (label) => Number(label.lastChild.value);
    const act = () => perform({ title: `Scale ${fn.name}`, text: `${fn.app}/${fn.name} will have ${number(least)} to ${number(most)} replicas.`, action: "Scale" },
      () => change("PUT", `${path("apps", fn.app, "functions", fn.name)}/scale`, { min: number(least), max: number(most) })).then(() => this.again());
    const element = h("form", { class: "hidden", onsubmit: (event) => { event.preventDefault(); act(); } }, h("h3", {}, "Scale"), h("div", { class: "actions" }, least, most, h("button", { type: "submit", class: "button" }, "Set")));
    return { element, update: (now) => element.classList.toggle("hidden", !now.raw.scale) };
  }

  evict() {
    const { name } = this.app;
    perform({ title: `Evict idle cells of ${name}`, text: "Cells that have nothing to do end; the next requests start new ones. Requests that are under way go on.", action: "Evict" },
      () => change("POST", `${path("apps", name)}/evict`)).then(() => this.again());
  }
}

function replicaLine(replica) {
  const kind = { ready: "good", starting: "warn", draining: "", backoff: "bad" }[replica.state] ?? "";
  const where = replica.cell === null || replica.cell === undefined ? `process ${replica.pid}` : `cell ${replica.cell}, process ${replica.pid}`;
  const line = h("p", {}, h("span", { class: `tag ${kind}` }, `#${replica.holder} ${replica.state}`), h("span", { class: "dim" }, ` ${where}, up ${f.span(replica.up_s)}${replica.restarts > 0 ? `, ${f.plural(replica.restarts, "restart")}` : ""}`));
  return line;
}

