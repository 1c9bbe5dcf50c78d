//! The manifest: what an app declares.
//!
//! Reading goes in two passes. [`parse`](Manifest::parse) turns text into values and knows the place of each;
//! `check` looks at the finished values only, names the place by its [`Site`], and so serves JSON as well, where
//! no line exists. Whatever holds a [`Manifest`] made by either road may rely on every limit of
//! [`limits`], on call edges and routes that lead to functions of the same app, and on routes that
//! do not clash.

pub(crate) mod check;
mod error;
mod events;
mod fault;
mod parse;
pub(crate) mod read;
mod runtime;
pub(crate) mod secrets;
mod site;
mod subscriptions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::error::{Location, ManifestError};
pub use self::events::{Cron, Events, TriggerFault};
pub use self::fault::{ManifestFault, RuntimeFault};
pub use self::runtime::{Http, Lambda, Listen, Python, Runtime};
pub use self::secrets::SecretFault;
pub use self::site::{Site, Step};
pub use self::subscriptions::{EventPattern, Subscription, SubscriptionFault};
use crate::limits;
use crate::names::{AppName, FunctionName, KeyName, NodeName, SecretName};
use crate::policy::{AppPolicies, Policies, Schema};
use crate::rollout::Rollout;
use crate::routes::{Route, RouteTable};
use crate::units::{ByteSize, Cores, TimeSpan};
use crate::words::{Fallback, Isolation, Policy, PoolRights, Trust, Wake};

/// An app as its `baton.toml` declares it, every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "site::Unchecked")]
pub struct Manifest {
    /// The app itself.
    pub app: App,
    /// Its pool.
    pub pool: Pool,
    /// Where its functions run in a cluster.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// How new versions of it take over.
    #[serde(default, skip_serializing_if = "Rollout::is_default")]
    pub deploy: Rollout,
    /// What the requests of every function pass.
    #[serde(default, skip_serializing_if = "Policies::is_default")]
    pub policy: Policies,
    /// Its functions.
    pub functions: BTreeMap<FunctionName, Function>,
    /// Its routes, in the order of the file.
    pub routes: Vec<Route>,
    /// What calls its functions by the clock, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cron: Vec<Cron>,
    /// Who gets which events, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<Subscription>,
}

/// The app as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its name, unique on a node.
    pub name: AppName,
    /// How finely memory keys follow buffers inside a cell, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// Who hands payloads over between its processes.
    #[serde(default, skip_serializing_if = "App::wakes_as_usual")]
    pub wake: Wake,
}

impl App {
    /// How finely memory keys follow buffers inside a cell.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust.unwrap_or_default()
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
    fn wakes_as_usual(wake: &Wake) -> bool {
        *wake == Wake::default()
    }
}

/// The app's payload memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// How large it is.
    pub size: ByteSize,
    /// Whether it is made of huge pages.
    pub huge_pages: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self { size: limits::POOL_SIZE_DEFAULT, huge_pages: false }
    }
}

/// Where an app's functions run in a cluster. On a node by itself it means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// How they are laid over the nodes.
    pub policy: Policy,
}

impl Placement {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Where its artifact comes from.
    pub build: Build,
    /// What it is written for.
    #[serde(default, skip_serializing_if = "Runtime::is_native")]
    pub runtime: Runtime,
    /// What holds its replicas.
    pub isolation: Isolation,
    /// What to do where the machine lacks what the isolation needs.
    pub fallback: Fallback,
    /// The only functions that it may call, in the order of the file.
    pub calls: Vec<FunctionName>,
    /// How long one call of it may take.
    pub timeout: TimeSpan,
    /// How long a replica may take to come up: its own time to import and to make ready; the runtime's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<TimeSpan>,
    /// How much memory of its own one replica may use.
    pub memory: ByteSize,
    /// How much of the cores one replica may use; unbounded if absent.
    pub cpu: Option<Cores>,
    /// Its right to the mapping of the app's pool.
    pub pool: PoolRights,
    /// How many replicas, and how busy.
    pub scale: Scale,
    /// The hosts that it may reach, `host` or `host:port`; none by default.
    pub network: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// The secrets that it is granted, by the names of the environment entries that hold their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretName>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Whether its compartment goes back to its snapshot after each request.
    #[serde(default)]
    pub reset: bool,
    /// Whether the next request finds what one leaves in a Wasm function's memory; it begins anew otherwise.
    #[serde(default)]
    pub reuse: bool,
    /// The memory key that it shares with the app's other functions of the same word; its own if absent.
    #[serde(default)]
    pub share_key: Option<KeyName>,
    /// The directory or file that it finds below `/app`, relative to the manifest's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<PathBuf>,
    /// Whether it may put payloads up for other functions of the app, and get theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub references: bool,
    /// The only nodes of a cluster that may run it; any if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeName>,
    /// Those of `calls` whose payloads are on this node's disk before they leave for another node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub durable: Vec<FunctionName>,
    /// Whether a call that was lost with its node may be made again elsewhere: doing its work twice does no harm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// What its requests pass, beside what those of every function do.
    #[serde(default, skip_serializing_if = "Policies::is_default")]
    pub policy: Policies,
    /// Whether it may answer in parts, and gets requests in parts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// The times of its streams.
    #[serde(default, skip_serializing_if = "Timeouts::is_default")]
    pub timeouts: Timeouts,
    /// What happens to the events that are put in its queue.
    #[serde(default, skip_serializing_if = "Events::is_default")]
    pub events: Events,
}

/// The times of a stream; what is absent has a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From the request's head to that of the answer; the function's `timeout` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<TimeSpan>,
    /// How long nothing may move, either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<TimeSpan>,
    /// From the request's head to the end; unbounded if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<TimeSpan>,
}

impl Timeouts {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Function {
    /// Whether it goes back to its snapshot after each request.
    #[must_use]
    pub fn begins_anew(&self) -> bool {
        match self.isolation {
            Isolation::Wasm => !self.reuse,
            Isolation::Process | Isolation::Compartment => self.reset,
        }
    }

    /// How long a replica may take to come up.
    #[must_use]
    pub fn start_within(&self) -> TimeSpan {
        let usual = match self.runtime {
            Runtime::Python(_) | Runtime::Lambda(_) => limits::IMPORT_DEFAULT,
            Runtime::Native | Runtime::Http(_) => limits::START_DEFAULT,
        };
        self.start_timeout.unwrap_or(usual)
    }

    /// How long a stream of its may take to begin.
    #[must_use]
    pub fn first_byte(&self) -> TimeSpan {
        self.timeouts.first_byte.unwrap_or(self.timeout)
    }

    /// How long a stream of its may stand still.
    #[must_use]
    pub fn stream_idle(&self) -> TimeSpan {
        self.timeouts.idle.unwrap_or(limits::STREAM_IDLE_DEFAULT)
    }

    /// Whether it runs in a cell, where it is there.
    #[must_use]
    pub fn wants_cell(&self) -> bool {
        self.isolation != Isolation::Process
    }
}

/// Where a function's artifact comes from. Paths are relative to the manifest's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Build {
    /// A Cargo package, built by the node.
    Cargo {
        /// The package's directory.
        dir: PathBuf,
    },
    /// Any command that leaves an artifact behind.
    Command {
        /// The command, run by `sh -c` in the manifest's directory.
        command: String,
        /// The file that it leaves behind.
        output: PathBuf,
    },
    /// A file that is there already.
    Artifact {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is built: its code is its files. Of functions that are not native.
    Files,
}

/// How many replicas a function has, and how busy each may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Replicas that are always there.
    pub min: u32,
    /// Replicas that there may be.
    pub max: u32,
    /// Requests at once in one replica.
    pub concurrency: u32,
    /// How long a replica above `min` idles before it is let go.
    pub idle: TimeSpan,
    /// Calls that may wait for this function; one more is refused.
    pub queue: u32,
}

impl Default for Scale {
    fn default() -> Self {
        Self { min: 1, max: 1, concurrency: 1, idle: limits::IDLE_DEFAULT, queue: limits::QUEUE_DEFAULT }
    }
}

impl Manifest {
    /// Reads a `baton.toml`; `file` only serves the error message.
    ///
    /// # Errors
    /// The first fault, with its place in the text and what to do about it.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        parse::manifest(text).map_err(|fault| ManifestError::at(file, text, fault))
    }

    /// A function by name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    /// Every schema of its policies, so that whoever can read files puts its text in.
    pub fn schemas_mut(&mut self) -> impl Iterator<Item = &mut Schema> {
        let own = self.functions.values_mut().flat_map(|function| function.policy.schemas_mut());
        self.policy.schemas_mut().chain(own)
    }

    /// The policies that it declares.
    #[must_use]
    pub fn policies(&self) -> AppPolicies {
        let own = self.functions.iter().filter(|(_, function)| !function.policy.is_empty());
        let functions = own.map(|(name, function)| (name.clone(), function.policy.clone())).collect();
        AppPolicies { policy: self.policy.clone(), functions }
    }

    /// The same manifest with other policies, checked anew.
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub fn with_policies(&self, policies: &AppPolicies) -> Result<Self, String> {
        let mut manifest = self.clone();
        manifest.policy = policies.policy.clone();
        for (name, function) in &mut manifest.functions {
            function.policy = policies.functions.get(name).cloned().unwrap_or_default();
        }
        if let Some(name) = policies.functions.keys().find(|name| !self.functions.contains_key(*name)) {
            return Err(format!(
                "functions.{name}: the app has no such function; `baton ps` lists those it has"
            ));
        }
        crate::policy::check_functions(&manifest, &Site::default()).map_err(|fault| fault.to_string())?;
        Ok(manifest)
    }

    /// Every declared call edge, caller first.
    pub fn edges(&self) -> impl Iterator<Item = (&FunctionName, &FunctionName)> {
        self.functions
            .iter()
            .flat_map(|(caller, function)| function.calls.iter().map(move |callee| (caller, callee)))
    }

    /// The app's routes, compiled; each leads to its function.
    ///
    /// # Errors
    /// Routes clash, which no manifest that was read has.
    pub fn route_table(&self) -> Result<RouteTable<FunctionName>, Box<crate::routes::RouteClash>> {
        RouteTable::compile(self.routes.iter().map(|route| (route.clone(), route.function.clone())))
    }
}

#[cfg(test)]
mod tests;
