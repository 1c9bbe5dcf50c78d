// What the node says from moment to moment, turned into what is shown: rates instead of counters, and a little past.

/** Samples that are kept: two minutes at one each second. */
const PAST = 120;
/** Samples over which latencies are taken: one call does not make a percentile. */
const WINDOW = 8;
/// Calls among functions that make a mean.
const TIMED_FROM = 512;

const sum = (list, of) => list.reduce((total, item) => total + (of(item) ?? 0), 0);
const key = (app, name) => `${app}/${name}`;

/** A difference of counters; one that fell began anew, with another version or another start. */
const grown = (now, before) => (before === undefined || now < before ? 0 : now - before);

/** The bound below which a share of what came between two rows of buckets lies; `undefined` if nothing came. */
export function quantile(now, before, share) {
  const old = new Map(before ?? []);
  const rows = now.map(([bound, n]) => [bound, Math.max(0, n - (old.get(bound) ?? 0))]).filter(([, n]) => n > 0);
  const all = sum(rows, ([, n]) => n);
  if (all === 0) return undefined;
  let seen = 0;
  for (const [bound, n] of rows) {
    seen += n;
    if (seen >= all * share) return bound;
  }
  return rows[rows.length - 1][0];
}

function flatten(overview) {
  const functions = new Map();
  const edges = new Map();
  for (const app of overview.apps) {
    // Counters of another version are other counters.
    const prefix = `${app.app}@${app.version}`;
    for (const edge of app.edges ?? []) edges.set(`${prefix}/${edge.caller}/${edge.callee}`, edge);
    for (const fn of app.functions) functions.set(`${prefix}/${fn.function}`, fn);
  }
  return { at: overview.at_ms, overview, functions, edges, cpu: new Map((overview.processes ?? []).map((p) => [p.pid, p])) };
}

export class Model {
  constructor() {
    this.samples = [];
    this.past = new Map();
    this.overview = null;
    this.functions = [];
    this.apps = [];
  }

  /** Takes in an overview. */
  take(overview) {
    const last = this.samples[this.samples.length - 1];
    // Another start of the node: its clock and counters began anew.
    if (last && (overview.node.pid !== last.overview.node.pid || overview.at_ms < last.at)) {
      this.samples = [];
      this.past.clear();
    }
    this.samples.push(flatten(overview));
    if (this.samples.length > WINDOW + 1) this.samples.shift();
    this.overview = overview;
    this.derive();
  }

  derive() {
    const now = this.samples[this.samples.length - 1];
    const before = this.samples[this.samples.length - 2];
    const early = this.samples[0];
    const seconds = before ? Math.max((now.at - before.at) / 1000, 0.05) : undefined;
    const shared = new Map();
    for (const app of now.overview.apps) for (const fn of app.functions) for (const replica of fn.replicas) {
      const users = shared.get(replica.pid) ?? new Set();
      shared.set(replica.pid, users.add(key(app.app, fn.function)));
    }
    const busy = (pid) => (before && now.cpu.has(pid) && before.cpu.has(pid)
      ? grown(now.cpu.get(pid).cpu_ms, before.cpu.get(pid).cpu_ms) / 1000 / seconds : undefined);
    const at = { now, before, early, seconds, shared, busy };
    this.apps = now.overview.apps.map((app) => this.app(app, at));
    this.functions = this.apps.flatMap((app) => app.functions);
    this.nodeCpu = busy(now.overview.node.pid);
    this.remember("", this.figures(this.apps, true));
    for (const app of this.apps) this.remember(app.name, this.figures([app], false));
  }

  app(app, at) {
    const prefix = `${app.app}@${app.version}`;
    const edges = (app.edges ?? []).map((edge) => this.edge(edge, `${prefix}/${edge.caller}/${edge.callee}`, at));
    const functions = app.functions.map((fn) => this.function(app, fn, edges, `${prefix}/${fn.function}`, at));
    const pids = new Set(app.functions.flatMap((fn) => fn.replicas.map((replica) => replica.pid)));
    const cpu = at.seconds === undefined ? undefined : sum([...pids], at.busy);
    const resident = sum([...pids], (pid) => at.now.cpu.get(pid)?.resident_bytes);
    const beside = (at.now.overview.beside ?? []).filter((one) => one.app === app.app).map((one) => one.version);
    return { name: app.app, version: app.version, beside, pool: app.pool, references: app.references, raw: app, functions, edges, cpu, resident };
  }

  edge(edge, id, { now, before, early, seconds }) {
    const old = before?.edges.get(id);
    const first = early?.edges.get(id);
    const per = (field) => (seconds === undefined || !old ? undefined : grown(edge[field], old[field]) / seconds);
    // Among functions one call in 64 is timed: few calls lately make no mean, those since the version was deployed do.
    const lately = first && early !== now ? grown(edge.calls, first.calls) : 0;
    const enough = lately >= (edge.caller === "gateway" ? 1 : TIMED_FROM);
    const calls = enough ? lately : edge.calls;
    const time = enough ? grown(edge.busy_ns, first.busy_ns) : edge.busy_ns;
    return {
      ...edge, rate: per("calls"), errorRate: per("errors"), bytesRate: per("bytes_handed"),
      mean: calls > 0 && time > 0 ? time / calls : undefined,
    };
  }

  function(app, fn, edges, id, { now, before, early, seconds, shared, busy }) {
    const into = edges.filter((edge) => edge.callee === fn.function);
    const old = before?.functions.get(id);
    const per = (field) => (seconds === undefined || !old ? undefined : grown(fn[field], old[field]) / seconds);
    const rated = (field, own) => {
      if (into.length === 0 || into.every((edge) => edge[field] === undefined)) return own;
      return Math.max(sum(into, (edge) => edge[field]), own ?? 0);
    };
    const buckets = fn.latency?.buckets;
    const first = early !== now ? early?.functions.get(id)?.latency?.buckets : undefined;
    const weight = sum(into, (edge) => (edge.mean === undefined ? 0 : edge.rate ?? 0));
    const own = fn.replicas.length > 0 && fn.replicas.every((replica) => shared.get(replica.pid)?.size === 1);
    return {
      key: key(app.app, fn.function), app: app.app, name: fn.function, raw: fn,
      calls: Math.max(fn.calls, sum(into, (edge) => edge.calls)), errors: Math.max(fn.errors, sum(into, (edge) => edge.errors)),
      rate: rated("rate", per("calls")), errorRate: rated("errorRate", per("errors")), queued: fn.queued,
      inFlight: sum(fn.replicas, (replica) => replica.in_flight), replicas: fn.replicas,
      ready: fn.replicas.filter((replica) => replica.state === "ready").length,
      p50: buckets && quantile(buckets, first, 0.5), p99: buckets && quantile(buckets, first, 0.99),
      mean: weight > 0 ? sum(into, (edge) => (edge.mean ?? 0) * (edge.rate ?? 0)) / weight : undefined,
      cpu: own && seconds !== undefined ? sum(fn.replicas, (replica) => busy(replica.pid)) : undefined, into,
    };
  }

  /** The figures of some apps; `all` adds what is the node's own. */
  figures(apps, all) {
    const functions = apps.flatMap((one) => one.functions);
    const edges = apps.flatMap((one) => one.edges);
    const outer = edges.filter((edge) => edge.caller === "gateway");
    const known = this.samples.length > 1;
    const total = (list, of) => (known ? sum(list, of) : undefined);
    const now = this.samples[this.samples.length - 1];
    const before = this.samples[this.samples.length - 2];
    let rate = outer.length > 0 ? total(outer, (edge) => edge.rate) : total(functions, (fn) => fn.rate);
    if (all && known) {
      rate = grown(now.overview.totals.invocations, before.overview.totals.invocations) / Math.max((now.at - before.at) / 1000, 0.05);
    }
    return {
      rate, errorRate: total(functions, (fn) => fn.errorRate), handed: edges.length > 0 ? total(edges, (edge) => edge.bytesRate) : undefined,
      inFlight: sum(functions, (fn) => fn.inFlight), queued: sum(functions, (fn) => fn.queued),
      replicas: sum(functions, (fn) => fn.replicas.length), ready: sum(functions, (fn) => fn.ready),
      cpu: known ? sum(apps, (one) => one.cpu) + (all ? this.nodeCpu ?? 0 : 0) : undefined,
      poolUsed: sum(apps, (one) => one.pool.pool_bytes - one.pool.free_bytes), poolBytes: sum(apps, (one) => one.pool.pool_bytes),
    };
  }

  remember(name, figures) {
    const series = this.past.get(name) ?? {};
    for (const [field, value] of Object.entries(figures)) {
      const list = (series[field] ??= []);
      if (value !== undefined) list.push(value);
      if (list.length > PAST) list.shift();
    }
    this.past.set(name, series);
    // Apps that are gone are forgotten.
    if (this.past.size > this.apps.length + 64) {
      for (const known of [...this.past.keys()]) {
        if (known !== "" && !this.apps.some((app) => app.name === known)) this.past.delete(known);
      }
    }
  }

  /** The past of an app's figures, or of the node's. */
  series(app, field) {
    return this.past.get(app ?? "")?.[field] ?? [];
  }
}
