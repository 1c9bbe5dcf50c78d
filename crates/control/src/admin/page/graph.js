// The picture of an app. The node says where things go (crates/control/src/graph.rs); this draws them and keeps them up to date.

import { attr, h, s, text } from "./dom.js";
import * as f from "./format.js";

const PAD = 28;
/** Edges up to which all of them carry figures; of more, only those of what is looked at. */
const LABELLED = 26;
const DOTS = 9;

/** A line through points, level where it passes them. */
function curve(points) {
  const [[x, y], ...rest] = points;
  let [lastX, lastY] = [x, y];
  let line = `M${x},${y}`;
  for (const [nextX, nextY] of rest) {
    const bend = (nextX - lastX) / 2;
    line += `C${lastX + bend},${lastY} ${nextX - bend},${nextY} ${nextX},${nextY}`;
    [lastX, lastY] = [nextX, nextY];
  }
  return line;
}

function cut(name, most) {
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}

/** The point of an arrow, where a line ends. */
function head(points) {
  const [[from], [x, y]] = points.slice(-2);
  const back = from < x ? -7 : 7;
  return `M${x},${y}l${back},-3.6v7.2z`;
}

export class Picture {
  /** `pick` is called with `{ fn }` or `{ edge: [caller, callee] }`, or `null`. */
  constructor(graph, pick) {
    this.graph = graph;
    this.pick = pick;
    this.current = 0;
    this.edges = graph.edges.map((edge) => this.edge(edge));
    this.nodes = graph.nodes.map((node, number) => this.node(node, number));
    const [width, height] = [graph.width + 2 * PAD, graph.height + 2 * PAD + 12];
    this.svg = s("svg", { viewBox: `${-PAD} ${-PAD - 6} ${width} ${height}`, role: "group", "aria-label": `Functions and calls of ${graph.app}` },
      this.edges.map((edge) => edge.element), this.nodes.map((node) => node.element));
    this.element = h("div", { class: `graph${graph.edges.length > LABELLED ? " few" : ""}` }, this.svg);
    this.natural = width;
    this.svg.addEventListener("click", (event) => { if (event.target === this.svg) this.pick(null); });
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(this.element);
  }

  /** As wide as there is room, but never so small that names cannot be read. */
  fit() {
    const room = this.element.clientWidth;
    if (room > 0) this.svg.style.width = `${Math.max(Math.min(room, this.natural * 1.25), this.natural * 0.72)}px`;
  }

  edge(edge) {
    const line = curve(edge.points);
    const path = s("path", { class: "line", d: line });
    const flow = s("path", { class: "flow hidden", d: line });
    const reach = s("path", { class: "reach", d: line });
    const title = s("title", {});
    const rate = s("tspan", {});
    const bytes = s("tspan", { class: "bytes" });
    const label = s("g", { class: "label" }, s("text", {}, rate, bytes));
    const element = s("g", { class: "edge" }, path, flow, s("path", { class: "head", d: head(edge.points) }), reach, label, title);
    element.addEventListener("click", () => this.pick({ edge: [edge.caller, edge.callee] }));
    // At the callee, where lines have parted.
    const [[from], [x, y]] = edge.points.slice(-2);
    attr(label, "transform", `translate(${from < x ? x - 11 : x + 11},${y - 4})`);
    label.style.textAnchor = from < x ? "end" : "start";
    return { edge, element, path, flow, title, rate, bytes };
  }

  node(node, number) {
    const { node_width: width, node_height: height } = this.graph;
    const [left, top] = [node.x - width / 2, node.y - height / 2];
    const name = s("text", { class: "name", x: 12, y: 20 }, cut(node.gateway ? "Gateway" : node.name, 21));
    const rate = s("text", { class: "rate", x: 12, y: 38 });
    const sub = s("text", { class: "sub", x: width - 12, y: 38 });
    const track = s("rect", { class: "rail", x: 12, y: 48, width: 74, height: 3, rx: 1.5 });
    const load = s("rect", { class: "load", x: 12, y: 48, width: 0, height: 3, rx: 1.5 });
    const dots = s("g", { transform: `translate(${width - 14},49.5)` });
    const title = s("title", {}, node.name);
    const element = s("g", {
      class: `node${node.gateway ? " gateway" : ""}`, transform: `translate(${left},${top})`,
      role: "button", tabindex: number === 0 ? "0" : "-1",
    }, s("rect", { class: "box", width, height, rx: 10 }), name, rate, sub, node.gateway ? null : [track, load, dots], title);
    element.addEventListener("click", () => this.choose(number));
    element.addEventListener("focus", () => { this.current = number; });
    return { node, element, rate, sub, load, dots, title };
  }

  choose(number) {
    this.current = number;
    this.nodes.forEach((node, at) => attr(node.element, "tabindex", at === number ? "0" : "-1"));
    const { node } = this.nodes[number];
    this.pick(this.selected?.fn === node.name ? null : { fn: node.name });
  }

  /** Arrow keys go to the nearest node that lies that way; Enter and the space bar choose. */
  key(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (event.key === "Enter" || event.key === " ") this.choose(this.current);
    else if (event.key === "Escape") this.pick(null);
    else if (way) this.step(way);
    else return;
    event.preventDefault();
  }

  step([dx, dy]) {
    const from = this.graph.nodes[this.current];
    let best = null;
    this.graph.nodes.forEach((node, number) => {
      const [x, y] = [node.x - from.x, node.y - from.y];
      const along = x * dx + y * dy;
      if (along <= 1) return;
      const cost = along + 2.5 * Math.abs(x * dy + y * dx);
      if (!best || cost < best.cost) best = { number, cost };
    });
    if (!best) return;
    attr(this.nodes[this.current].element, "tabindex", "-1");
    attr(this.nodes[best.number].element, "tabindex", "0");
    this.nodes[best.number].element.focus();
  }

  /** Shows what an app does now. */
  update(app) {
    const functions = new Map(app.functions.map((fn) => [fn.name, fn]));
    const edges = new Map(app.edges.map((edge) => [`${edge.caller}/${edge.callee}`, edge]));
    for (const drawn of this.edges) this.updateEdge(drawn, edges.get(`${drawn.edge.caller}/${drawn.edge.callee}`));
    for (const drawn of this.nodes) {
      if (drawn.node.gateway) this.updateGateway(drawn, app);
      else this.updateNode(drawn, functions.get(drawn.node.name));
    }
  }

  updateEdge(drawn, live) {
    const rate = live?.rate ?? 0;
    const flows = live?.bytesRate > 0;
    drawn.element.classList.toggle("live", rate > 0);
    drawn.element.classList.toggle("ailing", live?.errorRate > 0);
    drawn.element.classList.toggle("far", rate === 0);
    drawn.path.style.strokeWidth = rate > 0 ? (1.4 + Math.min(3.2, Math.log10(1 + rate))).toFixed(2) : "";
    drawn.flow.classList.toggle("hidden", !flows);
    text(drawn.rate, rate > 0 ? f.rate(rate) : "");
    text(drawn.bytes, flows ? ` ${f.bytes(live.bytesRate)}/s` : "");
    const { caller, callee } = drawn.edge;
    text(drawn.title, live
      ? `${caller} → ${callee}: ${f.count(live.calls)} calls, ${f.count(live.errors)} failed, ${f.bytes(live.bytes_handed)} handed over, ${f.nanos(live.mean)} a call`
      : `${caller} → ${callee}: may be called`);
  }

  updateGateway(drawn, app) {
    const outer = app.edges.filter((edge) => edge.caller === "gateway");
    const rate = outer.length > 0 ? outer.reduce((all, edge) => all + (edge.rate ?? 0), 0) : undefined;
    text(drawn.rate, rate === undefined ? "" : f.rate(rate));
    text(drawn.sub, f.plural(this.graph.routes.length, "route"));
    attr(drawn.element, "aria-label", `Gateway, ${f.plural(this.graph.routes.length, "route")}`);
  }

  updateNode(drawn, fn) {
    if (!fn) return;
    const failing = fn.errorRate > 0;
    const backoff = fn.replicas.some((replica) => replica.state === "backoff");
    drawn.element.classList.toggle("ailing", failing || backoff);
    text(drawn.rate, fn.rate === undefined ? "" : f.rate(fn.rate));
    const times = fn.p50 !== undefined ? `${f.nanos(fn.p50)} … ${f.nanos(fn.p99)}` : fn.mean !== undefined ? `≈ ${f.nanos(fn.mean)}` : "";
    text(drawn.sub, fn.replicas.length === 0 ? "scaled to zero" : times || fn.raw.runs_as.split(" ")[0]);
    const room = Math.max(1, fn.replicas.length) * (drawn.node.declared?.concurrency ?? 1);
    attr(drawn.load, "width", (74 * Math.min(1, (fn.inFlight + fn.queued) / room)).toFixed(1));
    drawn.load.classList.toggle("errors", fn.queued > 0);
    this.updateDots(drawn.dots, fn.replicas);
    attr(drawn.element, "aria-pressed", this.selected?.fn === fn.name);
    const label = `${fn.name}, ${f.rate(fn.rate)}, ${f.plural(fn.ready, "replica")} ready${failing ? ", failing" : ""}`;
    attr(drawn.element, "aria-label", label);
    const took = fn.p50 !== undefined ? `, half of requests within ${f.nanos(fn.p50)}, 99 of 100 within ${f.nanos(fn.p99)}` : "";
    text(drawn.title, `${fn.name}: ${f.count(fn.calls)} calls, ${f.count(fn.errors)} failed${took}`);
  }

  updateDots(group, replicas) {
    const states = replicas.slice(0, DOTS).map((replica) => replica.state);
    while (group.childElementCount > states.length) group.lastChild.remove();
    states.forEach((state, at) => {
      if (!group.children[at]) group.append(s("circle", { cx: -at * 8, cy: 0, r: 2.8 }));
      attr(group.children[at], "class", `replica ${state}`);
    });
  }

  /** Marks what is looked at, and what is next to it. */
  select(selected) {
    this.selected = selected;
    const near = new Set();
    const fn = selected?.fn;
    for (const { edge, element } of this.edges) {
      const is = selected?.edge ? selected.edge[0] === edge.caller && selected.edge[1] === edge.callee : fn !== undefined && (edge.caller === fn || edge.callee === fn);
      element.classList.toggle("near", is);
      if (is) near.add(edge.caller).add(edge.callee);
    }
    this.element.classList.toggle("focus", near.size > 0);
    for (const { node, element } of this.nodes) {
      element.classList.toggle("near", near.has(node.name) || node.name === fn);
      element.classList.toggle("selected", node.name === fn);
      attr(element, "aria-pressed", node.name === fn);
      if (node.name === fn && fn !== this.brought) this.bring(node);
    }
    this.brought = fn;
  }

  /** Scrolls the picture, and only it, to where a node can be seen. */
  bring(node) {
    const scale = this.svg.clientWidth / this.natural;
    const [x, room] = [(node.x + PAD) * scale, this.element.clientWidth];
    if (x < this.element.scrollLeft + 60 || x > this.element.scrollLeft + room - 60) this.element.scrollLeft = x - room / 2;
  }

  end() {
    this.watch.disconnect();
  }
}
