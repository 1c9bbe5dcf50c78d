//! From TOML to values: keys, types and the grammar of single values.

mod rollout;
mod runtime;
mod shared;

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use super::check;
use super::error::Location;
use super::fault::ManifestFault;
use super::read::{Located, Placed, Reader, document, text, wrong_type};
use super::secrets::secrets;
use super::subscriptions::subscriptions;
use super::{App, Build, Cron, Events, Function, Manifest, Placement, Pool, Scale, Site, Timeouts};
use crate::limits;
use crate::names::{AppName, FunctionName, KeyName, NameFault, NodeName};
use crate::policy::read_policy;
use crate::routes::{Method, Route};
use crate::units::Cores;

const DOCUMENT_KEYS: &[&str] =
    &["app", "pool", "placement", "deploy", "policy", "functions", "routes", "cron", "subscriptions"];
const APP_KEYS: &[&str] = &["name", "trust", "wake", "env", "secrets"];
const POOL_KEYS: &[&str] = &["size", "huge_pages"];
const PLACEMENT_KEYS: &[&str] = &["policy"];
const FUNCTION_KEYS: &[&str] = &[
    "build",
    "artifact",
    "runtime",
    "handler",
    "python",
    "snapshot",
    "command",
    "port",
    "socket",
    "ready",
    "ports",
    "lambda",
    "isolation",
    "fallback",
    "calls",
    "timeout",
    "start_timeout",
    "memory",
    "cpu",
    "pool",
    "scale",
    "network",
    "env",
    "secrets",
    "args",
    "reset",
    "reuse",
    "share_key",
    "files",
    "references",
    "nodes",
    "durable",
    "idempotent",
    "policy",
    "stream",
    "timeouts",
    "events",
];
const TIMEOUTS_KEYS: &[&str] = &["first_byte", "idle", "total"];
const BUILD_KEYS: &[&str] = &["cargo", "command", "output"];
const SCALE_KEYS: &[&str] = &["min", "max", "concurrency", "idle", "queue"];
const ROUTE_KEYS: &[&str] = &["path", "methods", "function"];
const EVENTS_KEYS: &[&str] = &["attempts", "age", "pause", "concurrency", "queue", "dead_letter"];
const CRON_KEYS: &[&str] = &["schedule", "timezone", "function", "method", "path", "body"];

pub(super) fn manifest(text: &str) -> Result<Manifest, Located> {
    let document = document(text)?;
    let document = document.get_ref();
    let reader = Reader::open(String::new(), document, 0..0, DOCUMENT_KEYS)?;
    let manifest = Manifest {
        app: app(&reader)?,
        pool: pool(&reader)?,
        placement: placement(&reader)?,
        deploy: rollout::rollout(&reader)?,
        policy: read_policy(&reader)?,
        functions: functions(&reader)?,
        routes: routes(&reader)?,
        cron: crons(&reader)?,
        subscriptions: subscriptions(&reader)?,
    };
    check::manifest(&manifest).map_err(|misplaced| {
        let mut fault = misplaced.fault;
        if let ManifestFault::DuplicateRoute { clash, first_line } = &mut *fault {
            let first = Site::default().then("routes").then(clash.first).then("path").span(document);
            *first_line = Some(Location::of(text, first).line);
        }
        Located { span: misplaced.site.span(document), fault }
    })?;
    Ok(manifest)
}

fn app(document: &Reader<'_, '_>) -> Result<App, Located> {
    let table = document.table("app", APP_KEYS)?;
    let table = document.required(table, "app", "a table [app] with name = \"NAME\"")?;
    let name = table.required(table.text("name")?, "name", "name = \"NAME\"")?;
    let trust = match table.get("trust") {
        Some(_) => Some(table.word("trust")?),
        None => None,
    };
    Ok(App { name: named(name, AppName::new)?, trust, wake: table.word("wake")? })
}

fn pool(document: &Reader<'_, '_>) -> Result<Pool, Located> {
    let Some(table) = document.table("pool", POOL_KEYS)? else { return Ok(Pool::default()) };
    let defaults = Pool::default();
    Ok(Pool {
        size: table.size("size")?.unwrap_or(defaults.size),
        huge_pages: table.bool("huge_pages")?.unwrap_or(defaults.huge_pages),
    })
}

fn placement(document: &Reader<'_, '_>) -> Result<Placement, Located> {
    let Some(table) = document.table("placement", PLACEMENT_KEYS)? else { return Ok(Placement::default()) };
    Ok(Placement { policy: table.word("policy")? })
}

fn functions(document: &Reader<'_, '_>) -> Result<BTreeMap<FunctionName, Function>, Located> {
    let Some(value) = document.get("functions") else { return Ok(BTreeMap::new()) };
    let table = value.get_ref().as_table().ok_or_else(|| wrong_type("functions", "a table", value))?;
    let shared = shared::Shared::read(document)?;
    let mut functions = BTreeMap::new();
    // In the order of the text, so that the first fault of the file is the one that is told.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name = named((key.span(), key.get_ref()), FunctionName::new)?;
        let path = format!("functions.{name}");
        let table = value.get_ref().as_table().ok_or_else(|| wrong_type(&path, "a table", value))?;
        let reader = Reader::open(path, table, key.span(), FUNCTION_KEYS)?;
        functions.insert(name.clone(), shared.given_to(function(&name, &reader)?));
    }
    Ok(functions)
}

fn function(name: &FunctionName, table: &Reader<'_, '_>) -> Result<Function, Located> {
    let calls = table.texts("calls")?.unwrap_or_default();
    let nodes = table.texts("nodes")?.unwrap_or_default();
    let durable = table.texts("durable")?.unwrap_or_default();
    let owned = |(_, text): Placed<'_>| text.to_owned();
    let (runtime, build) = runtime::runtime(name, table)?;
    let memory = if runtime.is_native() { limits::MEMORY_DEFAULT } else { limits::RUNTIME_MEMORY_DEFAULT };
    Ok(Function {
        build,
        runtime,
        isolation: table.word("isolation")?,
        fallback: table.word("fallback")?,
        calls: calls.into_iter().map(|callee| named(callee, FunctionName::new)).collect::<Result<_, _>>()?,
        timeout: table.time("timeout")?.unwrap_or(limits::TIMEOUT_DEFAULT),
        start_timeout: table.time("start_timeout")?,
        memory: table.size("memory")?.unwrap_or(memory),
        cpu: cpu(table)?,
        pool: table.word("pool")?,
        scale: scale(table)?,
        network: table.texts("network")?.unwrap_or_default().into_iter().map(owned).collect(),
        env: env(table)?,
        secrets: secrets(table)?,
        args: table.texts("args")?.unwrap_or_default().into_iter().map(owned).collect(),
        reset: table.bool("reset")?.unwrap_or_default(),
        reuse: table.bool("reuse")?.unwrap_or_default(),
        share_key: table.text("share_key")?.map(|key| named(key, KeyName::new)).transpose()?,
        files: table.text("files")?.map(|(_, path)| path.into()),
        references: table.bool("references")?.unwrap_or_default(),
        nodes: nodes.into_iter().map(|node| named(node, NodeName::new)).collect::<Result<_, _>>()?,
        durable: durable
            .into_iter()
            .map(|callee| named(callee, FunctionName::new))
            .collect::<Result<_, _>>()?,
        idempotent: table.bool("idempotent")?.unwrap_or_default(),
        events: events(table)?,
        policy: read_policy(table)?,
        stream: table.bool("stream")?.unwrap_or_default(),
        timeouts: timeouts(table)?,
    })
}

fn timeouts(table: &Reader<'_, '_>) -> Result<Timeouts, Located> {
    let Some(table) = table.table("timeouts", TIMEOUTS_KEYS)? else { return Ok(Timeouts::default()) };
    Ok(Timeouts {
        first_byte: table.time("first_byte")?,
        idle: table.time("idle")?,
        total: table.time("total")?,
    })
}

fn build(name: &FunctionName, table: &Reader<'_, '_>) -> Result<Build, Located> {
    let artifact = table.text("artifact")?;
    let Some(build) = table.table("build", BUILD_KEYS)? else {
        let Some((_, path)) = artifact else {
            return Err(Located::new(table.span(), ManifestFault::NoBuild { function: name.to_string() }));
        };
        return Ok(Build::Artifact { path: path.into() });
    };
    let (cargo, command, output) = (build.text("cargo")?, build.text("command")?, build.text("output")?);
    let half = |missing| Err(Located::new(build.span(), ManifestFault::HalfBuild { missing }));
    match (artifact, cargo, command, output) {
        (None, Some((_, dir)), None, None) => Ok(Build::Cargo { dir: dir.into() }),
        (None, None, Some((_, command)), Some((_, output))) => {
            Ok(Build::Command { command: command.to_owned(), output: output.into() })
        }
        (None, None, Some(_), None) => half("output"),
        (None, None, None, Some(_)) => half("command"),
        (None, None, None, None) => {
            Err(Located::new(build.span(), ManifestFault::NoBuild { function: name.to_string() }))
        }
        _ => Err(Located::new(build.span(), ManifestFault::TwoBuilds { function: name.to_string() })),
    }
}

fn cpu(table: &Reader<'_, '_>) -> Result<Option<Cores>, Located> {
    let Some((span, cores)) = table.float("cpu")? else { return Ok(None) };
    let expected = "a positive number such as 0.5";
    let wrong = |_| ManifestFault::WrongType { key: table.key("cpu"), expected, found: "this number" };
    Cores::try_from(cores).map(Some).map_err(|fault| Located::new(span, wrong(fault)))
}

fn scale(table: &Reader<'_, '_>) -> Result<Scale, Located> {
    let Some(table) = table.table("scale", SCALE_KEYS)? else { return Ok(Scale::default()) };
    let defaults = Scale::default();
    let min = table.count("min")?.unwrap_or(defaults.min);
    Ok(Scale {
        min,
        // A floor without a ceiling is a fixed number of replicas.
        max: table.count("max")?.unwrap_or(min.max(defaults.max)),
        concurrency: table.count("concurrency")?.unwrap_or(defaults.concurrency),
        idle: table.time("idle")?.unwrap_or(defaults.idle),
        queue: table.count("queue")?.unwrap_or(defaults.queue),
    })
}

fn events(table: &Reader<'_, '_>) -> Result<Events, Located> {
    let Some(table) = table.table("events", EVENTS_KEYS)? else { return Ok(Events::default()) };
    let defaults = Events::default();
    Ok(Events {
        attempts: table.count("attempts")?.unwrap_or(defaults.attempts),
        age: table.time("age")?.unwrap_or(defaults.age),
        pause: table.time("pause")?.unwrap_or(defaults.pause),
        concurrency: table.count("concurrency")?.unwrap_or(defaults.concurrency),
        queue: table.count("queue")?.unwrap_or(defaults.queue),
        dead_letter: table.text("dead_letter")?.map(|name| named(name, FunctionName::new)).transpose()?,
    })
}

fn crons(document: &Reader<'_, '_>) -> Result<Vec<Cron>, Located> {
    let Some(items) = document.list("cron", "tables [[cron]]")? else { return Ok(Vec::new()) };
    items.iter().map(cron).collect()
}

fn cron(value: &Spanned<DeValue<'_>>) -> Result<Cron, Located> {
    let table = value.get_ref().as_table().ok_or_else(|| wrong_type("cron", "tables [[cron]]", value))?;
    let table = Reader::open("cron".to_owned(), table, value.span(), CRON_KEYS)?;
    let example = "schedule = \"0 3 * * *\"";
    let (_, schedule) = table.required(table.text("schedule")?, "schedule", example)?;
    let function = table.required(table.text("function")?, "function", "function = \"NAME\"")?;
    let word = |text: Option<Placed<'_>>| text.map(|(_, text)| text.to_owned());
    Ok(Cron {
        schedule: schedule.to_owned(),
        timezone: word(table.text("timezone")?),
        function: named(function, FunctionName::new)?,
        method: table.text("method")?.map(method).transpose()?.unwrap_or_else(Method::post),
        path: word(table.text("path")?).unwrap_or_else(|| "/".to_owned()),
        body: word(table.text("body")?).unwrap_or_default(),
    })
}

fn env(table: &Reader<'_, '_>) -> Result<BTreeMap<String, String>, Located> {
    let Some(value) = table.get("env") else { return Ok(BTreeMap::new()) };
    let name = table.key("env");
    let entries = value.get_ref().as_table().ok_or_else(|| wrong_type(&name, "a table of texts", value))?;
    let mut env = BTreeMap::new();
    for (key, value) in entries {
        let key = key.get_ref().to_string();
        let (_, value) = text(&format!("{name}.{key}"), value)?;
        env.insert(key, value.to_owned());
    }
    Ok(env)
}

fn routes(document: &Reader<'_, '_>) -> Result<Vec<Route>, Located> {
    let Some(items) = document.list("routes", "tables [[routes]]")? else { return Ok(Vec::new()) };
    items.iter().map(route).collect()
}

fn route(value: &Spanned<DeValue<'_>>) -> Result<Route, Located> {
    let table = value.get_ref().as_table().ok_or_else(|| wrong_type("routes", "tables [[routes]]", value))?;
    let table = Reader::open("routes".to_owned(), table, value.span(), ROUTE_KEYS)?;
    let (span, path) = table.required(table.text("path")?, "path", "path = \"/PATH\"")?;
    let bad = |fault| ManifestFault::Path { path: path.to_owned(), fault };
    let path = path.parse().map_err(|fault| Located::new(span, bad(fault)))?;
    let methods = match table.texts("methods")? {
        Some(methods) => methods.into_iter().map(method).collect::<Result<_, _>>()?,
        None => vec![Method::get()],
    };
    let function = table.required(table.text("function")?, "function", "function = \"NAME\"")?;
    Ok(Route { path, methods, function: named(function, FunctionName::new)? })
}

fn method((span, text): Placed<'_>) -> Result<Method, Located> {
    let bad = |fault| ManifestFault::Method { method: text.to_owned(), fault };
    text.parse().map_err(|fault| Located::new(span, bad(fault)))
}

fn named<N>((span, name): Placed<'_>, new: impl FnOnce(&str) -> Result<N, NameFault>) -> Result<N, Located> {
    new(name).map_err(|fault| Located::new(span, ManifestFault::Name { name: name.to_owned(), fault }))
}
