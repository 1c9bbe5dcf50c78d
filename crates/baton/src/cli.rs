//! The command line.

mod cluster;
mod events;
mod lambda;
mod policy;
mod secret;
mod sights;
mod telemetry;
mod tls;
mod versions;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::cluster::ClusterArgs;
pub(crate) use self::events::{EventArgs, EventsArgs, EventsVerb};
pub(crate) use self::lambda::{KeysVerb, LambdaArgs, LambdaVerb};
pub(crate) use self::policy::{PolicyArgs, PolicySetArgs, PolicyVerb};
pub(crate) use self::secret::{SecretListArgs, SecretRemoveArgs, SecretSetArgs, SecretVerb};
pub(crate) use self::sights::{GraphArgs, GraphFormat, SortKey, TopArgs};
pub(crate) use self::telemetry::{Receipts, TelemetryArgs, TestArgs, UsageArgs};
pub(crate) use self::tls::TlsArgs;
pub(crate) use self::versions::{AppArgs, RollbackArgs, RolloutArgs, TrafficArgs};
use crate::cores::CoreList;

/// Serverless functions on one machine that hand their data on without copying it.
#[derive(Debug, Parser)]
#[command(name = "baton", version, propagate_version = true)]
pub(crate) struct Cli {
    /// The node's state directory [default: ~/.baton]
    #[arg(long, global = true, env = "BATON_HOME", value_name = "DIR", hide_env_values = true)]
    pub(crate) home: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a new function project
    New(NewArgs),
    /// Build an app's functions
    Build(BuildArgs),
    /// Build an app, start a node with it, and stay until Ctrl-C
    Up(UpArgs),
    /// Start a node with what is deployed, and stay until Ctrl-C
    Node(NodeArgs),
    /// Build an app and deploy it to the running node
    Deploy(DeployArgs),
    /// List the versions of an app, and which answer
    Versions(AppArgs),
    /// Have the newer of two versions answer all requests
    Promote(AppArgs),
    /// Go back to the version before, or to another that is kept
    Rollback(RollbackArgs),
    /// Set which versions of an app answer how many of its requests
    Traffic(TrafficArgs),
    /// List functions and their replicas
    Ps(JsonArgs),
    /// Watch functions and calls, live
    Top(TopArgs),
    /// Draw an app's functions and calls, with what goes on
    Graph(GraphArgs),
    /// Call a function
    Invoke(InvokeArgs),
    /// Calls that nobody waits for: what waits, and what came to nothing
    Events(EventsArgs),
    /// Print what functions wrote
    Logs(LogsArgs),
    /// Capabilities: who may access which bytes
    #[command(subcommand)]
    Caps(CapsVerb),
    /// What an invocation cost, hop by hop
    Receipt(ReceiptArgs),
    /// What functions used, over restarts of the node
    Usage(UsageArgs),
    /// Test an app: its own cases, on a node of their own
    Test(TestArgs),
    /// What this machine offers, and which isolation settings follow
    Doctor(DoctorArgs),
    /// Measure Baton against its yardsticks
    #[command(disable_help_flag = true)]
    Bench(BenchArgs),
    /// The Lambda API: who may use it
    #[command(subcommand)]
    Lambda(LambdaVerb),
    /// What requests of an app pass: limits, tokens, headers and more
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Passwords and keys of apps: sealed on the disk, shown by nothing
    #[command(subcommand)]
    Secret(SecretVerb),
    /// Remove an app from the node
    Rm(RemoveArgs),
    /// Change how many replicas a function has at least and at most
    Scale(ScaleArgs),
    /// List the nodes of the cluster
    Nodes(JsonArgs),
    /// The cluster that the node is in
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Have a node give its work to the others
    Drain(DrainArgs),
    /// Print a shell's completion script
    Completions(CompletionsArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// A function in Rust
    Rust,
    /// A function in C
    C,
    /// A function in Python
    Python,
    /// A function for AWS Lambda, in Python
    LambdaPython,
    /// A program that listens on a port
    Http,
    /// A component in JavaScript
    WasmJs,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Load a program into a compartment, and list the system calls that it asks for and does not get
    #[arg(long, value_name = "PATH|APP/FUNCTION")]
    pub(crate) trace_syscalls: Option<String>,
    /// Arguments of that program
    #[arg(last = true, value_name = "ARG", requires = "trace_syscalls")]
    pub(crate) args: Vec<OsString>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The new directory; its name is the app's
    #[arg(value_name = "NAME")]
    pub(crate) path: PathBuf,
    /// What to start from
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) template: Template,
    /// The directory sdk/rust of Baton's sources, if not where this program was built
    #[arg(long, value_name = "PATH")]
    pub(crate) sdk: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The app's directory
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The app's directory, or the file of a component or of a Python function
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) rollout: RolloutArgs,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The app's directory, or the file of a component or of a Python function
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Build and deploy again whenever a source changes
    #[arg(long)]
    pub(crate) watch: bool,
    /// Take what an earlier build left behind
    #[arg(long, conflicts_with = "watch")]
    pub(crate) no_build: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The gateway's port on loopback; 0 takes free ones, for the admin API too
    #[arg(long, value_name = "N", conflicts_with = "listen")]
    pub(crate) port: Option<u16>,
    /// The gateway's address [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The admin API's address, on loopback [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", value_parser = loopback)]
    pub(crate) admin: Option<SocketAddr>,
    /// Cores for the node and its replicas, such as 0 or 0,2-3
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<CoreList>,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
    /// Certificate authorities, in PEM, for outgoing requests of functions, beside the machine's
    #[arg(long, value_name = "FILE")]
    pub(crate) network_ca: Option<PathBuf>,
    /// Run functions without a sandbox where this machine forbids one
    #[arg(long)]
    pub(crate) insecure_no_sandbox: bool,
    #[command(flatten)]
    pub(crate) lambda: LambdaArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Print one line of JSON with addresses and token when ready
    #[arg(long)]
    pub(crate) json: bool,
}

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const GATEWAY_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 8081;

/// Its token would cross a network unencrypted.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}: write IP:PORT"))?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err("this API listens on loopback only; reach it from elsewhere through a tunnel such as ssh -L"
        .to_owned())
}

impl NodeArgs {
    pub(crate) fn gateway_address(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from((LOOPBACK, self.port.unwrap_or(GATEWAY_PORT))))
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        let port = if self.port == Some(0) { 0 } else { ADMIN_PORT };
        self.admin.unwrap_or_else(|| SocketAddr::from((LOOPBACK, port)))
    }
}

#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    /// The function, as APP/FUNCTION
    #[arg(value_name = "APP/FUNCTION")]
    pub(crate) target: Target,
    /// The body: text, @FILE, or @- for standard input
    #[arg(long, value_name = "STR|@FILE|@-")]
    pub(crate) data: Option<OsString>,
    /// The method [default: GET, or POST with --data]
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// The path that the function sees [default: /; for a Lambda function none, and it sees the body alone]
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// A header, as NAME:VALUE; may be repeated
    #[arg(long = "header", value_name = "NAME:VALUE")]
    pub(crate) headers: Vec<Header>,
    /// Record what it costs, and print that afterwards
    #[arg(long)]
    pub(crate) receipt: bool,
    /// Do not wait for it: leave it to the node, which tries until it is done
    #[arg(long)]
    pub(crate) event: bool,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

/// A function of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) app: String,
    pub(crate) function: String,
}

impl std::str::FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((app, function)) if !app.is_empty() && !function.is_empty() && !function.contains('/') => {
                Ok(Self { app: app.to_owned(), function: function.to_owned() })
            }
            _ => Err("a function is named APP/FUNCTION"),
        }
    }
}

/// A header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl std::str::FromStr for Header {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("a header is written NAME:VALUE")?;
        if name.trim().is_empty() {
            return Err("the header has no name");
        }
        Ok(Self { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned() })
    }
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Only lines of this app or function
    #[arg(value_name = "APP[/FUNCTION]")]
    pub(crate) of: Option<Scope>,
    /// Stay and print lines as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// An app, or one function of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) app: String,
    pub(crate) function: Option<String>,
}

impl std::str::FromStr for Scope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains('/') && !text.is_empty() {
            return Ok(Self { app: text.to_owned(), function: None });
        }
        let Target { app, function } = text.parse()?;
        Ok(Self { app, function: Some(function) })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum CapsVerb {
    /// List who may access which bytes right now
    Ls(CapsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CapsArgs {
    /// Only this app's
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReceiptArgs {
    /// The invocation (header x-baton-invocation), or `last`
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The suite and its options; `baton bench --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME …")]
    pub(crate) args: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The app
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
#[group(id = "limits", required = true, multiple = true, args = ["min", "max"])]
pub(crate) struct ScaleArgs {
    /// The function, as APP/FUNCTION
    #[arg(value_name = "APP/FUNCTION")]
    pub(crate) target: Target,
    /// Replicas that are always there
    #[arg(long, value_name = "N")]
    pub(crate) min: Option<u32>,
    /// Replicas that there may be
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u32>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterVerb {
    /// Its store, its members, and what each runs of each app
    Status(JsonArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The node
    pub(crate) node: String,
    /// Have it take work again
    #[arg(long)]
    pub(crate) undo: bool,
    /// How long to wait until nothing is in flight there, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with = "undo")]
    pub(crate) within: u64,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests;
