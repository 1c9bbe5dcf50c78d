//! What each verb does.

mod bench;
mod cluster;
mod deploy;
mod doctor;
mod events;
mod invoke;
mod lambda;
mod logs;
mod policy;
mod ps;
mod receipt;
mod scale;
mod secret;
mod test;
mod trace;
mod usage;
mod versions;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use baton_control::protocol::RemoveReply;
use bytes::Bytes;
use clap::CommandFactory;
use hyper::Method;
use serde_json::json;

pub(crate) use self::deploy::{deploy_built, described};
pub(crate) use self::usage::back;
use crate::app::App;
use crate::build;
use crate::cli::{BuildArgs, CapsVerb, Cli, ClusterVerb, CompletionsArgs, NewArgs, RemoveArgs, Verb};
use crate::client::{Client, escaped, parse};
use crate::failure::Failure;
use crate::node;
use crate::output::{Style, bytes_out, json_out, line_out};
use crate::scaffold;

/// Runs a verb to its end.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let home = home(cli.home)?;
    match cli.verb {
        Verb::New(args) => new(&args),
        Verb::Build(args) => build_app(&args),
        Verb::Up(args) => return node::up(&home, &args),
        Verb::Node(args) => return node::run(&home, &args),
        Verb::Deploy(args) => deploy::run(&home, &args),
        Verb::Versions(args) => versions::list(&home, &args),
        Verb::Promote(args) => versions::promote(&home, &args),
        Verb::Rollback(args) => versions::rollback(&home, &args),
        Verb::Traffic(args) => versions::traffic(&home, &args),
        Verb::Ps(args) => ps::run(&home, &args),
        Verb::Invoke(args) => return invoke::run(&home, &args),
        Verb::Events(args) => events::run(&home, &args),
        Verb::Logs(args) => logs::run(&home, &args),
        Verb::Caps(CapsVerb::Ls(args)) => ps::capabilities(&home, &args),
        Verb::Receipt(args) => receipt::run(&home, &args),
        Verb::Usage(args) => usage::run(&home, &args),
        Verb::Test(args) => return test::run(&args),
        Verb::Doctor(args) => match &args.trace_syscalls {
            Some(program) => trace::run(&home, program, &args),
            None => doctor::run(&args.output),
        },
        Verb::Bench(args) => return bench::run(&args),
        Verb::Lambda(verb) => lambda::run(&home, &verb),
        Verb::Policy(verb) => policy::run(&home, &verb),
        Verb::Secret(verb) => secret::run(&home, &verb),
        Verb::Rm(args) => remove(&home, &args),
        Verb::Scale(args) => scale::run(&home, &args),
        Verb::Nodes(args) => cluster::nodes(&home, &args),
        Verb::Cluster(ClusterVerb::Status(args)) => cluster::status(&home, &args),
        Verb::Drain(args) => cluster::drain(&home, &args),
        Verb::Top(args) => crate::top::run(&home, &args),
        Verb::Graph(args) => crate::picture::run(&home, &args),
        Verb::Completions(args) => completions(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn home(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let home = given.filter(|home| !home.as_os_str().is_empty());
    home.or_else(|| Some(std::env::home_dir()?.join(".baton"))).ok_or_else(|| {
        Failure::bad_input("there is no home directory", "set BATON_HOME to the node's state directory")
    })
}

/// Runs a conversation with the node.
fn talk<T>(home: &Path, with: impl AsyncFnOnce(Client) -> Result<T, Failure>) -> Result<T, Failure> {
    block_on(with(Client::new(home)))
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::failed(format_args!("cannot start a runtime: {error}"), ""))?;
    runtime.block_on(future)
}

fn new(args: &NewArgs) -> Result<(), Failure> {
    let at = scaffold::create(&args.path, args.template, args.sdk.as_deref())?;
    if args.output.json {
        return json_out(&json!({ "directory": at }));
    }
    line_out(&format!("made {0}; start it with: baton up {0}", at.display()))
}

fn build_app(args: &BuildArgs) -> Result<(), Failure> {
    let app = App::load(&args.dir)?;
    let built = build::build(&app)?;
    if args.output.json {
        return json_out(&json!({ "app": app.manifest.app.name, "artifacts": built }));
    }
    let style = Style::stdout();
    for (function, path) in &built {
        line_out(&format!("{} {function}  {}", style.green("built"), path.display()))?;
    }
    Ok(())
}

fn remove(home: &Path, args: &RemoveArgs) -> Result<(), Failure> {
    let path = format!("/v1/apps/{}", escaped(&args.app));
    talk(home, async |client| {
        let answer = client.call(Method::DELETE, &path, Bytes::new()).await?;
        let RemoveReply { removed } = parse(&answer)?;
        if args.output.json {
            return json_out(&RemoveReply { removed });
        }
        line_out(&format!("removed {removed}"))
    })
}

fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = io::Cursor::new(Vec::new());
    clap_complete::generate(args.shell, &mut Cli::command(), "baton", &mut script);
    bytes_out(&script.into_inner())
}
