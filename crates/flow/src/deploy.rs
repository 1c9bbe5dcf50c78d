//! A version of an app on its way up: what it is, and when it is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::plan::Patch;
use baton_catalog::{FunctionName, Manifest};

use crate::app::{App, FunctionState};
use crate::error::DeployError;
use crate::replica::Phase;
use crate::secrets::SecretEnv;
use crate::status::LogLine;

/// How much longer than the slowest of its replicas a new version may take until all are ready.
const BESIDE_STARTS: Duration = Duration::from_secs(5);

/// An app to be started.
#[derive(Clone, Debug)]
pub struct AppSpec {
    /// What it declares.
    pub manifest: Manifest,
    /// Counts deployments of this app, from 1.
    pub version: u64,
    /// The executable of each function; for a Wasm function, that of its module, which goes on in its host.
    pub artifacts: BTreeMap<FunctionName, PathBuf>,
    /// The programs in which the executables of Wasm functions go on.
    pub hosts: BTreeMap<FunctionName, PathBuf>,
    /// What compartments write over the code of executables, so that no forbidden encoding is left in it.
    pub patches: BTreeMap<FunctionName, Vec<Patch>>,
    /// The files of those functions that have any.
    pub files: BTreeMap<FunctionName, BundledFiles>,
    /// The secrets that functions are granted, as they are now: all replicas of this start of the version have these.
    pub secrets: BTreeMap<FunctionName, SecretEnv>,
    /// The functions that this node hosts; `None` for all. Routes lead to all of them wherever they are.
    pub here: Option<BTreeSet<FunctionName>>,
}

/// Where the node has the files of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundledFiles {
    /// All in one piece, for compartments.
    pub bundle: PathBuf,
    /// Each by itself in this directory, for processes. Absolute; absent for what runs in a compartment only.
    pub tree: Option<PathBuf>,
}

/// An app that runs.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The app.
    pub app: String,
    /// Its version.
    pub version: u64,
    /// Replicas that are ready.
    pub replicas: u32,
}

/// Waits until all replicas are ready that are always there, and all templates.
pub(crate) async fn wait_until_ready(app: &Rc<App>) -> Result<(), DeployError> {
    // What is forked is imported first, and comes up then.
    let starts = |state: &FunctionState| if state.nursery.is_some() { 2 } else { 1 };
    let times = app.functions.iter().map(|state| state.spec.start_within().duration() * starts(state));
    let deadline = Instant::now() + BESIDE_STARTS + times.max().unwrap_or_default();
    loop {
        let changed = app.changed.notified();
        let failure = app.groups.iter().find_map(|group| group.failure.borrow().clone());
        if let Some((function, why)) = failure {
            let function = app.function_name(function).to_owned();
            return Err(DeployError::NotReady { function, why });
        }
        let not_imported = app.functions.iter().find_map(|state| {
            let why = state.nursery.as_ref()?.failure.borrow().clone()?;
            Some((state.name.to_string(), why))
        });
        if let Some((function, why)) = not_imported {
            return Err(DeployError::NotReady { function, why });
        }
        let late = (0..app.functions.len()).find(|&function| !is_ready(app, function));
        let Some(late) = late.and_then(|late| app.functions.get(late)) else { return Ok(()) };
        // One death is one too many at first: the version is at fault, and whoever deploys it wants to know.
        let dead = app.functions.iter().find(|state| state.restarts.get() > 0);
        let function = dead.unwrap_or(late).name.to_string();
        let why = || last_words(app, &function);
        if dead.is_some() {
            return Err(DeployError::NotReady { why: why(), function });
        }
        if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
            return Err(DeployError::NotReady { why: why(), function });
        }
    }
}

fn is_ready(app: &App, function: usize) -> bool {
    let Some(state) = app.functions.get(function) else { return true };
    if app.group_of(function).is_some_and(|group| !group.is_ready()) {
        return false;
    }
    if state.nursery.as_ref().is_some_and(|nursery| !nursery.is_ready()) {
        return false;
    }
    let replicas = state.replicas.borrow();
    replicas.iter().all(|place| place.as_ref().is_some_and(|up| up.phase.get() == Phase::Ready))
}

fn last_words(app: &App, function: &str) -> String {
    let logs = app.node.logs.borrow();
    let lines = logs.after(0, Some(&app.name), None);
    let about = |line: &&LogLine| line.function == function || line.message.starts_with(function);
    let last: Vec<&str> =
        lines.iter().rev().filter(about).take(3).map(|line| line.message.as_str()).collect();
    if last.is_empty() { "it gave no sign of life".to_owned() } else { last.join(" | ") }
}
