//! `cargo xtask bench` and `cargo xtask soak`: builds the binaries in release, then runs the one that measures, which builds the
//! apps that it deploys.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::builds::{self, BuildError, Purpose};
use crate::child::RunError;
use crate::project::Project;
use crate::python;
use crate::steps::Outcome;
use crate::tools::{self, IPERF, NGINX, REDIS};
use crate::{guests, nats};

/// How long a benchmark may take.
const BENCH_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// The benchmark between nodes, which compares with others' programs.
const BETWEEN_NODES: &str = "transfer";
const PYTHON: &str = "python";
/// A pipeline with functions in Python, which compares with stores.
const VISION: &str = "vision";
/// The benchmarks that compare with nginx alone: of policies, of what is counted.
const WITH_NGINX: [&str; 2] = ["sidecar", "audit"];
/// A server of S3, from the crates registry: the last version for the toolchain of this project.
const S3: (&str, &str) = ("s3s-fs", "0.14.1");
/// Where programs are installed, in the target directory.
const TOOLS: &str = "tools";
/// How long building that server may take.
const S3_LIMIT: Duration = Duration::from_secs(1800);
/// How long a soak may take on top of its minutes: start, warm-up, drain.
const SOAK_EXTRA: Duration = Duration::from_secs(600);

/// Which benchmark.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// The name and the options, as `baton bench` takes them
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME")]
    args: Vec<String>,
}

/// How long to soak.
#[derive(Debug, Args)]
pub(crate) struct SoakOptions {
    /// Minutes under load
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
}

/// Builds the binaries, the yardsticks included, and modules if they are asked for, and runs `baton bench`.
pub(crate) fn run(project: &Project, options: &Options) -> Result<(), Box<dyn Error>> {
    builds::binaries(project, builds::ALL_BINARIES, Purpose::Use)?;
    let wants_modules = options.args.iter().any(|arg| arg.contains("wasm"));
    if wants_modules && let Outcome::Skipped(why) = guests::run(project)? {
        println!("no modules: {why}");
    }
    let baton = project.release_binary("baton")?;
    let mut command = Command::new(baton);
    if options.args.first().is_some_and(|name| name == BETWEEN_NODES) {
        rivals(project)?;
        command.envs(nats::find(project).map(|server| ("BATON_NATS_SERVER", server)));
    }
    if options.args.first().is_some_and(|name| WITH_NGINX.contains(&name.as_str())) {
        tools::install_missing(project.runner(), &[&NGINX])?;
    }
    if options.args.first().is_some_and(|name| name == PYTHON || name == VISION) {
        tools::install_missing(project.runner(), &[&REDIS, &NGINX])?;
        python::install_missing(project)?;
        command.envs(python::find(project).map(|python| ("BATON_TEST_PYTHON", python)));
    }
    command.arg("bench").args(&options.args).current_dir(project.root());
    Ok(project.runner().run(&mut command, BENCH_LIMIT)?)
}

/// Installs what transfers are compared with. What cannot be had is left out, and the benchmark says so.
fn rivals(project: &Project) -> Result<(), Box<dyn Error>> {
    tools::install_missing(project.runner(), &[&REDIS, &NGINX, &IPERF])?;
    nats::install_missing(project)?;
    let (name, version) = S3;
    let place = project.target_dir()?.join(TOOLS);
    if tools::find(name).is_some() || place.join("bin").join(name).is_file() {
        return Ok(());
    }
    println!("installing {name} {version}");
    let mut command =
        project.cargo(&["install", "--quiet", "--locked", "--features", "binary", "--version", version]);
    match project.runner().run(command.arg("--root").arg(place).arg(name), S3_LIMIT) {
        Err(RunError::Interrupted) => return Err(RunError::Interrupted.into()),
        Err(error) => println!("SKIP: the comparison of transfers with S3: {error}"),
        Ok(()) => {}
    }
    Ok(())
}

/// Builds the binaries and runs the soak.
pub(crate) fn soak(project: &Project, options: &SoakOptions) -> Result<(), BuildError> {
    builds::binaries(project, builds::ALL_BINARIES, Purpose::Use)?;
    let bench = project.release_binary("baton-bench").map_err(BuildError::Metadata)?;
    let mut command = Command::new(bench);
    command.args(["soak", "--minutes", &options.minutes.to_string()]).current_dir(project.root());
    let limit = SOAK_EXTRA + Duration::from_secs(options.minutes * 60);
    project.runner().run(&mut command, limit).map_err(BuildError::Run)
}
