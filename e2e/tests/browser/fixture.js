// A node that does not exist, for the page to look at: many functions, and names that would be markup if they could.
(() => {
  const HOSTILE = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"'&`;
  const APPS = 25;
  const EACH = 40;
  let polls = 0;
  window.asked = [];
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
  }).observe({ type: "longtask", buffered: true });

  const name = (app) => (app === 0 ? HOSTILE : `app-${String(app).padStart(2, "0")}`);
  const fn = (app, at) => (app === 0 && at === 0 ? HOSTILE : `function-${at}`);
  const overview = () => {
    polls += 1;
    return {
      node: { version: HOSTILE, pid: 1, uptime_s: polls * 2, gateway: "127.0.0.1:1", admin: "127.0.0.1:2", home: HOSTILE },
      at_ms: polls * 2000, recording: true, failed: [{ app: HOSTILE, error: HOSTILE }],
      totals: { invocations: polls * 4000, failures: 0, replica_deaths: 0, bad_descriptors: 0, in_flight: 3 },
      processes: [{ pid: 1, cpu_ms: polls * 100, resident_bytes: 5e7 }],
      apps: Array.from({ length: APPS }, (_, app) => ({
        app: name(app), version: 1, references: { held: 0, held_bytes: 0, put: 0, got: 0 },
        pool: { pool_bytes: 1 << 26, free_bytes: 1 << 25, buffers_out: 9, buffers_stashed: 4, buffers_in_use: 5, orphans: 0 },
        edges: Array.from({ length: EACH - 1 }, (_, at) => ({
          caller: fn(app, Math.floor(at / 3)), callee: fn(app, at + 1), calls: polls * (at + 1) * 20, errors: at === 5 ? polls : 0, bytes_handed: polls * 4096, busy_ns: polls * 1e6,
        })),
        functions: Array.from({ length: EACH }, (_, at) => ({
          function: fn(app, at), isolation: "process", runs_as: "process", artifact: HOSTILE, queued: 0, calls: polls * (at + 1) * 10, errors: 0, faults: 0,
          network: { answered: 0, denied: 0, failed: 0 }, loaded: null,
          latency: { count: polls * 100, sum_ns: polls * 1e8, buckets: Array.from({ length: 20 }, (_, b) => [1000 << b, polls * (b + 1)]) },
          replicas: [{ holder: 2, pid: 100 + app * EACH + at, cell: null, state: at % 7 === 3 ? "backoff" : "ready", in_flight: at % 2, restarts: 0, up_s: polls }],
        })),
      })),
    };
  };
  const graph = (app) => {
    const place = (at) => ({ x: 90 + 300 * Math.floor(Math.log(2 * at + 1) / Math.log(3)), y: 40 + 80 * (at % 9) });
    return {
      app, version: 1, width: 1500, height: 760, node_width: 172, node_height: 60, routes: [{ path: HOSTILE, methods: ["GET"], function: HOSTILE }],
      nodes: Array.from({ length: EACH }, (_, at) => ({ name: fn(app === HOSTILE ? 0 : 1, at), gateway: false, ...place(at), declared: { isolation: "process", timeout_ms: 2000, memory_bytes: 1 << 26, scale_min: 0, scale_max: 8, concurrency: 1, network: [HOSTILE] } })),
      edges: Array.from({ length: EACH - 1 }, (_, at) => {
        const [from, to] = [Math.floor(at / 3), at + 1];
        const [a, b] = [place(from), place(to)];
        return { caller: fn(app === HOSTILE ? 0 : 1, from), callee: fn(1, to), from, to, points: [[a.x + 86, a.y], [b.x - 86, b.y]] };
      }),
    };
  };
  const hop = { caller: "gateway", function: HOSTILE, operation: 0, status: 200, copies: 0, bytes_copied: 0, bytes_handed: 10, crossings: 2, switches: 0, cpu_ns: 500, wall_ns: 900, node: HOSTILE, carried: { inline_bytes: 1, referenced_bytes: 2 } };
  const answers = (path) => {
    if (path === "/v1/overview") return overview();
    if (path.endsWith("/graph")) return graph(decodeURIComponent(path.split("/")[3]));
    if (path === "/v1/receipts") return { receipts: [{ invocation: HOSTILE, app: HOSTILE, function: HOSTILE, status: 200, wall_ns: 1000, copies: 0, bytes_copied: 0, bytes_handed: 10, crossings: 2, switches: 0, cpu_ns: 500, hops: [hop] }] };
    if (path === "/v1/caps") return { capabilities: Array.from({ length: 3000 }, (_, at) => ({ app: HOSTILE, capability: `${at}.1`, buffer: at, holder: HOSTILE, state: "held", rights: "rwp", offset: 0, len: 100, parent: null, invocation: HOSTILE })) };
    if (path.startsWith("/v1/logs")) return path.includes("after=0") ? { lines: [{ number: 1, time_ms: 1, app: HOSTILE, function: HOSTILE, holder: 1, level: HOSTILE, invocation: HOSTILE, message: HOSTILE }], next: 1 } : { lines: [], next: 1 };
    if (path.endsWith("/versions")) return { app: HOSTILE, versions: [{ version: 1, functions: { [HOSTILE]: "aa" }, state: "serving", share: HOSTILE, deployed_ms: 1, deployed_by: HOSTILE, requests: 1, failures: 0, replicas: 1 }, { version: 2, functions: { [HOSTILE]: "bb" }, state: "undone", undone: HOSTILE, share: "0%", deployed_ms: 2, deployed_by: HOSTILE, requests: 1, failures: 1, replicas: 0 }] };
    return null;
  };
  window.fetch = async (path, options = {}) => {
    window.asked.push(`${options.method ?? "GET"} ${path}`);
    const answer = answers(String(path));
    return new Response(JSON.stringify(answer ?? { error: HOSTILE, hint: HOSTILE }), { status: answer ? 200 : 404 });
  };
  sessionStorage.setItem("baton-token", "of no node");
})();
