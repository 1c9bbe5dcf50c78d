//! What must hold between the values of a manifest, whatever form it was read from.

use std::fmt;
use std::path::{Component, Path};

use super::fault::ManifestFault;
use super::{Build, Function, Manifest, Scale, Site};
use crate::limits;
use crate::names::FunctionName;
use crate::nearest::nearest;
use crate::outgoing::is_host;
use crate::routes::{Route, RouteTable};
use crate::units::Cores;
use crate::words::{Fallback, Isolation, PoolRights, Wake};

/// A fault and the value that has it.
#[derive(Debug)]
pub(crate) struct Misplaced {
    pub(crate) site: Site,
    pub(crate) fault: Box<ManifestFault>,
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.site, self.fault, self.fault.remedy())
    }
}

impl std::error::Error for Misplaced {}

pub(crate) fn fail<T>(site: Site, fault: ManifestFault) -> Result<T, Misplaced> {
    Err(Misplaced { site, fault: Box::new(fault) })
}

/// Checks everything; the first fault ends it.
pub(super) fn manifest(manifest: &Manifest) -> Result<(), Misplaced> {
    let root = Site::default();
    wake(manifest, &root.then("app").then("wake"))?;
    pool(manifest, &root.then("pool"))?;
    rollout(manifest, &root.then("deploy"))?;
    let site = root.then("functions");
    if manifest.functions.is_empty() {
        return fail(site, ManifestFault::NoFunctions);
    }
    at_most(&site, "functions", manifest.functions.len(), limits::FUNCTIONS_MAX)?;
    for (name, each) in &manifest.functions {
        function(name, each, &site.then(name))?;
        calls(manifest, name, each, &site.then(name))?;
    }
    at_most(&site, "call edges", manifest.edges().count(), limits::EDGES_MAX)?;
    crate::policy::check_functions(manifest, &root)?;
    routes(manifest, &root.then("routes"))?;
    super::subscriptions::check(manifest, &root.then("subscriptions"))?;
    super::events::check(manifest, &root)
}

/// In a cell a call is a gate: the kernel sees none of it.
fn wake(manifest: &Manifest, site: &Site) -> Result<(), Misplaced> {
    let in_cell = manifest.functions.iter().find(|(_, function)| function.wants_cell());
    match in_cell {
        Some((name, function)) if manifest.app.wake == Wake::Ebpf => fail(
            site.clone(),
            ManifestFault::WakeInCells { function: name.clone(), isolation: function.isolation.as_str() },
        ),
        _ => Ok(()),
    }
}

fn pool(manifest: &Manifest, site: &Site) -> Result<(), Misplaced> {
    let pool = &manifest.pool;
    within(&site.then("size"), "pool.size", pool.size, (limits::POOL_SIZE_MIN, limits::POOL_SIZE_MAX))?;
    if pool.huge_pages && !pool.size.bytes().is_multiple_of(limits::HUGE_PAGE.bytes()) {
        return fail(site.then("size"), ManifestFault::UnevenHugePages { size: pool.size });
    }
    let sees_it =
        |function: &Function| function.isolation == Isolation::Wasm && function.pool != PoolRights::None;
    if manifest.functions.values().any(sees_it) {
        let bounds = (limits::POOL_SIZE_MIN, limits::WASM_POOL_SIZE_MAX);
        within(&site.then("size"), "pool.size of an app with Wasm functions", pool.size, bounds)?;
    }
    Ok(())
}

fn rollout(manifest: &Manifest, site: &Site) -> Result<(), Misplaced> {
    let Some(rollback) = &manifest.deploy.rollback else { return Ok(()) };
    let site = site.then("rollback");
    let windows = (limits::ROLLBACK_WINDOW_MIN, limits::ROLLBACK_WINDOW_MAX);
    within(&site.then("window"), "deploy.rollback.window", rollback.window, windows)?;
    within(&site.then("after"), "deploy.rollback.after", rollback.after, (1, limits::ROLLBACK_AFTER_MAX))
}

fn function(name: &FunctionName, function: &Function, site: &Site) -> Result<(), Misplaced> {
    build(&function.build, site)?;
    if let Some(path) = &function.files {
        files(path, &site.then("files"))?;
    }
    contradictions(function, site)?;
    super::runtime::check(function, site)?;
    let timeouts = (limits::TIMEOUT_MIN, limits::TIMEOUT_MAX);
    within(&site.then("timeout"), "timeout", function.timeout, timeouts)?;
    if let Some(time) = function.start_timeout {
        if function.isolation != Isolation::Process {
            let key = "start_timeout";
            return fail(site.then(key), ManifestFault::NeedsProcess { key });
        }
        let bounds = (limits::START_MIN, limits::START_MAX);
        within(&site.then("start_timeout"), "start_timeout", time, bounds)?;
    }
    within(&site.then("memory"), "memory", function.memory, (limits::MEMORY_MIN, limits::MEMORY_MAX))?;
    if let Some(cpu) = function.cpu {
        let bounds = (Cores::from_milli(limits::CPU_MILLI_MIN), Cores::from_milli(limits::CPU_MILLI_MAX));
        within(&site.then("cpu"), "cpu", cpu, bounds)?;
    }
    stream(function, site)?;
    scale(&function.scale, &site.then("scale"))?;
    environment(function, site)?;
    at_most(
        &site.then("nodes"),
        "nodes of one function",
        function.nodes.len(),
        limits::NODES_PER_FUNCTION_MAX,
    )?;
    let calls = site.then("calls");
    at_most(&calls, "calls of one function", function.calls.len(), limits::CALLS_PER_FUNCTION_MAX)?;
    for (place, callee) in function.calls.iter().enumerate() {
        if callee == name {
            return fail(calls.then(place), ManifestFault::CallsItself { function: name.clone() });
        }
        if function.calls.iter().take(place).any(|earlier| earlier == callee) {
            let (caller, callee) = (name.clone(), callee.clone());
            return fail(calls.then(place), ManifestFault::CalledTwice { caller, callee });
        }
    }
    Ok(())
}

fn build(build: &Build, site: &Site) -> Result<(), Misplaced> {
    let bounded = |site: Site, what, text: &Path| {
        let bytes = text.as_os_str().as_encoded_bytes();
        whole_text(&site, what, bytes, limits::BUILD_TEXT_BYTES_MAX)
    };
    match build {
        Build::Cargo { dir } => bounded(site.then("build").then("cargo"), "the directory of the build", dir),
        Build::Command { command, output } => {
            bounded(site.then("build").then("command"), "the command of the build", Path::new(command))?;
            bounded(site.then("build").then("output"), "the output of the build", output)
        }
        Build::Artifact { path } => bounded(site.then("artifact"), "the path of the artifact", path),
        Build::Files => Ok(()),
    }
}

/// What is bundled lies in the manifest's directory; whether it does through links as well is seen when it is bundled.
fn files(path: &Path, site: &Site) -> Result<(), Misplaced> {
    let bytes = path.as_os_str().as_encoded_bytes();
    whole_text(site, "the path of the files", bytes, limits::FILES_PATH_BYTES_MAX)?;
    if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(());
    }
    fail(site.clone(), ManifestFault::FilesOutside { path: path.to_owned() })
}

fn stream(function: &Function, site: &Site) -> Result<(), Misplaced> {
    let times = &function.timeouts;
    let all = [("first_byte", times.first_byte), ("idle", times.idle), ("total", times.total)];
    let bounds = (limits::STREAM_TIME_MIN, limits::STREAM_TIME_MAX);
    for (key, time) in all {
        if let Some(time) = time {
            within(&site.then("timeouts").then(key), key, time, bounds)?;
        }
    }
    if !function.stream && !times.is_default() {
        return fail(site.then("timeouts"), ManifestFault::TimeoutsWithoutStream);
    }
    if function.stream && function.pool != PoolRights::Write {
        return fail(site.then("stream"), ManifestFault::StreamWithoutPool);
    }
    Ok(())
}

/// Settings that are fine one by one and cannot both be meant.
fn contradictions(function: &Function, site: &Site) -> Result<(), Misplaced> {
    if function.isolation == Isolation::Wasm && function.fallback == Fallback::Process {
        return fail(site.then("fallback"), ManifestFault::WasmAsProcess);
    }
    compartment(function, site)?;
    if function.is_native() && !function.network.is_empty() && function.pool != PoolRights::Write {
        return fail(site.then("network"), ManifestFault::NetworkWithoutPool);
    }
    if function.references && function.pool == PoolRights::None {
        return fail(site.then("references"), ManifestFault::ReferencesWithoutPool);
    }
    let (place, artifact) = match &function.build {
        Build::Artifact { path } => (site.then("artifact"), path),
        Build::Command { output, .. } => (site.then("build").then("output"), output),
        Build::Cargo { .. } | Build::Files => return Ok(()),
    };
    let is_wasm = artifact.extension().is_some_and(|extension| extension == "wasm");
    if is_wasm != (function.isolation == Isolation::Wasm) {
        return fail(place, ManifestFault::ArtifactKind { isolation: function.isolation.as_str() });
    }
    Ok(())
}

/// Settings of compartments: refused where they could not be kept, rather than left out.
fn compartment(function: &Function, site: &Site) -> Result<(), Misplaced> {
    if function.reuse && function.isolation != Isolation::Wasm {
        return fail(site.then("reuse"), ManifestFault::NeedsWasm { key: "reuse" });
    }
    if function.isolation == Isolation::Process {
        return match (function.reset, &function.share_key) {
            (true, _) => fail(site.then("reset"), ManifestFault::NeedsCompartment { key: "reset" }),
            (_, Some(_)) => {
                fail(site.then("share_key"), ManifestFault::NeedsCompartment { key: "share_key" })
            }
            _ => Ok(()),
        };
    }
    let bounds = (limits::MEMORY_MIN, limits::COMPARTMENT_MEMORY_MAX);
    within(&site.then("memory"), "memory of a compartment", function.memory, bounds)?;
    if function.isolation == Isolation::Wasm {
        return wasm(function, site);
    }
    if function.reset && function.fallback == Fallback::Process {
        return fail(site.then("reset"), ManifestFault::ResetAsProcess);
    }
    let concurrency = function.scale.concurrency;
    if function.reset && concurrency > 1 {
        return fail(site.then("reset"), ManifestFault::ResetUnderOthers { concurrency });
    }
    Ok(())
}

fn wasm(function: &Function, site: &Site) -> Result<(), Misplaced> {
    if function.reset {
        return fail(site.then("reset"), ManifestFault::ResetOfWasm);
    }
    let concurrency = function.scale.concurrency;
    if !function.reuse && concurrency > 1 {
        return fail(site.then("scale").then("concurrency"), ManifestFault::FreshUnderOthers { concurrency });
    }
    Ok(())
}

fn scale(scale: &Scale, site: &Site) -> Result<(), Misplaced> {
    within(&site.then("max"), "scale.max", scale.max, (1, limits::REPLICAS_MAX))?;
    if scale.min > scale.max {
        return fail(site.then("min"), ManifestFault::MinAboveMax { min: scale.min, max: scale.max });
    }
    let concurrency = (1, limits::CONCURRENCY_MAX);
    within(&site.then("concurrency"), "scale.concurrency", scale.concurrency, concurrency)?;
    within(&site.then("idle"), "scale.idle", scale.idle, (limits::IDLE_MIN, limits::IDLE_MAX))?;
    within(&site.then("queue"), "scale.queue", scale.queue, (0, limits::QUEUE_MAX))
}

fn environment(function: &Function, site: &Site) -> Result<(), Misplaced> {
    let env = site.then("env");
    at_most(&env, "environment entries", function.env.len(), limits::ENV_ENTRIES_MAX)?;
    for (name, value) in &function.env {
        let entry = env.then(name.as_str());
        if name.is_empty() || name.contains(['=', '\0']) {
            return fail(entry, ManifestFault::EnvName { name: name.clone() });
        }
        if value.contains('\0') {
            return fail(entry, ManifestFault::BadText { what: "the environment entry" });
        }
        let bytes = name.len() + value.len();
        not_longer(&entry, "the environment entry", bytes, limits::ENV_ENTRY_BYTES_MAX)?;
    }
    super::secrets::check(function, site)?;
    let args = site.then("args");
    at_most(&args, "arguments", function.args.len(), limits::ARGS_MAX)?;
    for (place, arg) in function.args.iter().enumerate() {
        if arg.contains('\0') {
            return fail(args.then(place), ManifestFault::BadText { what: "the argument" });
        }
        not_longer(&args.then(place), "the argument", arg.len(), limits::ARG_BYTES_MAX)?;
    }
    let network = site.then("network");
    at_most(&network, "outgoing hosts", function.network.len(), limits::NETWORK_HOSTS_MAX)?;
    for (place, host) in function.network.iter().enumerate() {
        if function.is_native() && !is_host(host) {
            return fail(network.then(place), ManifestFault::Host { host: host.clone() });
        }
    }
    Ok(())
}

fn calls(
    manifest: &Manifest,
    name: &FunctionName,
    function: &Function,
    site: &Site,
) -> Result<(), Misplaced> {
    for (place, callee) in function.calls.iter().enumerate() {
        if !manifest.functions.contains_key(callee) {
            // The caller itself is no suggestion: a function cannot call itself.
            let others = manifest.functions.keys().filter(|other| *other != name);
            let nearest = nearest(callee.as_str(), others.map(FunctionName::as_str));
            let (caller, callee) = (name.clone(), callee.clone());
            return fail(
                site.then("calls").then(place),
                ManifestFault::UnknownCallee { caller, callee, nearest },
            );
        }
    }
    for (place, callee) in function.durable.iter().enumerate() {
        if !function.calls.contains(callee) {
            let (caller, callee) = (name.clone(), callee.clone());
            return fail(
                site.then("durable").then(place),
                ManifestFault::DurableWithoutCall { caller, callee },
            );
        }
    }
    Ok(())
}

fn routes(manifest: &Manifest, site: &Site) -> Result<(), Misplaced> {
    at_most(site, "routes", manifest.routes.len(), limits::ROUTES_MAX)?;
    for (place, each) in manifest.routes.iter().enumerate() {
        route(manifest, each, &site.then(place))?;
    }
    let table = RouteTable::compile(manifest.routes.iter().map(|route| (route.clone(), ())));
    match table {
        Ok(_) => Ok(()),
        Err(clash) => {
            let site = site.then(clash.second).then("path");
            fail(site, ManifestFault::DuplicateRoute { clash: *clash, first_line: None })
        }
    }
}

fn route(manifest: &Manifest, route: &Route, site: &Site) -> Result<(), Misplaced> {
    let methods = site.then("methods");
    at_most(&methods, "methods of one route", route.methods.len(), limits::METHODS_PER_ROUTE_MAX)?;
    if route.methods.is_empty() {
        return fail(methods, ManifestFault::NoMethods { path: route.path.clone() });
    }
    for (place, method) in route.methods.iter().enumerate() {
        if route.methods.iter().take(place).any(|earlier| earlier == method) {
            return fail(methods.then(place), ManifestFault::MethodTwice { method: method.clone() });
        }
    }
    if manifest.functions.contains_key(&route.function) {
        return Ok(());
    }
    let nearest = nearest(route.function.as_str(), manifest.functions.keys().map(FunctionName::as_str));
    let (path, function) = (route.path.clone(), route.function.clone());
    fail(site.then("function"), ManifestFault::RouteToNowhere { path, function, nearest })
}

pub(crate) fn within<V: PartialOrd + fmt::Display>(
    site: &Site,
    key: &'static str,
    value: V,
    (min, max): (V, V),
) -> Result<(), Misplaced> {
    if min <= value && value <= max {
        return Ok(());
    }
    let (value, min, max) = (value.to_string(), min.to_string(), max.to_string());
    fail(site.clone(), ManifestFault::OutOfRange { key, value, min, max })
}

pub(crate) fn at_most(site: &Site, what: &'static str, count: usize, max: usize) -> Result<(), Misplaced> {
    if count <= max { Ok(()) } else { fail(site.clone(), ManifestFault::TooMany { what, count, max }) }
}

pub(super) fn not_longer(site: &Site, what: &'static str, bytes: usize, max: usize) -> Result<(), Misplaced> {
    if bytes <= max { Ok(()) } else { fail(site.clone(), ManifestFault::TooLong { what, bytes, max }) }
}

fn whole_text(site: &Site, what: &'static str, text: &[u8], max: usize) -> Result<(), Misplaced> {
    if text.is_empty() || text.contains(&0) {
        return fail(site.clone(), ManifestFault::BadText { what });
    }
    not_longer(site, what, text.len(), max)
}
