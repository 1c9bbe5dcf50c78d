//! `cargo xtask …`: builds, tests and shows the project.
//!
//! One module per task. Tasks run other programs by [`child::Runner`] alone, which checks exit codes, keeps time limits
//! and leaves nothing running on Ctrl-C; what they build is in [`builds`].

#![forbid(unsafe_code)]

mod bench;
mod beside;
mod builds;
mod child;
mod demo;
mod demo_cluster;
mod guests;
mod install;
mod kernel;
mod licences;
mod nats;
mod project;
mod python;
mod servers;
mod simulate;
mod steps;
mod suite;
mod tidy;
mod tools;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, io};

use clap::{Args, Parser, Subcommand};

use child::Runner;
use project::Project;
use steps::Outcome;

/// Builds, tests and shows Baton.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds everything, starts the boutique, and says what to try
    Demo(demo::Options),
    /// Builds everything, starts two nodes in networks of their own with the boutique over both, and says what to try
    DemoCluster,
    /// Passes every test that fits in CI: format, lints, house rules, unit, loom, fuzz and end-to-end tests
    #[command(visible_alias = "ci")]
    Test(suite::Options),
    /// Checks the house rules: lengths, layers, paths in the docs, where unsafe is
    Tidy,
    /// Builds the binaries and puts them on PATH
    Install(install::Options),
    /// Builds functions of this clone as Wasm modules, and checks what they import and export
    Guests,
    /// Builds the programs that run in the kernel from C, to be committed
    Kernel,
    /// Runs a benchmark: `baton bench NAME …`
    Bench(bench::Options),
    /// Runs the boutique at 70 % load for some minutes and checks that nothing leaks
    Soak(bench::SoakOptions),
    /// Simulates clusters of a thousand and ten thousand nodes: where calls go, and what that costs
    Simulate(simulate::Options),
    /// Runs the fuzz targets for a while
    Fuzz(FuzzOptions),
}

#[derive(Debug, Args)]
struct FuzzOptions {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let runner = Runner::new();
    runner.catch_signals()?;
    let project = Project::new(find_root()?, runner);
    match &cli.task {
        Task::Demo(options) => demo::run(&project, options)?,
        Task::DemoCluster => demo_cluster::run(&project)?,
        Task::Test(options) => suite::run(&project, options)?,
        Task::Tidy => tidy::run(&project)?,
        Task::Install(options) => install::run(&project, options)?,
        Task::Guests => {
            if let Outcome::Skipped(why) = guests::run(&project)? {
                println!("SKIP: guests: {why}");
            }
        }
        Task::Kernel => {
            if let Outcome::Skipped(why) = kernel::build(&project)? {
                println!("SKIP: kernel: {why}");
            }
        }
        Task::Bench(options) => bench::run(&project, options)?,
        Task::Soak(options) => bench::soak(&project, options)?,
        Task::Simulate(options) => simulate::run(&project, options, builds::Purpose::Use)?,
        Task::Fuzz(options) => suite::fuzz(&project, options.seconds)?,
    }
    Ok(())
}

/// The root of the clone: above xtask's manifest if cargo runs this, else above the working directory.
fn find_root() -> io::Result<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(manifest) => PathBuf::from(manifest),
        None => env::current_dir()?,
    };
    let is_root = |path: &&Path| path.join("xtask/Cargo.toml").is_file();
    let root = start.ancestors().find(is_root).map(Path::to_owned);
    root.ok_or_else(|| io::Error::other("not inside a clone of the project: run `cargo xtask` there"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ci_is_test() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).map(|cli| cli.task);
        assert!(matches!(parse(&["xtask", "ci"]), Ok(Task::Test(_))));
        assert!(matches!(parse(&["xtask", "test", "--quick"]), Ok(Task::Test(_))));
        assert!(parse(&["xtask", "fuzz", "--seconds", "0"]).is_err());
    }
}
