//! `cargo xtask simulate`: builds the simulator and runs it.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::builds::{BUILD_LIMIT, Purpose};
use crate::project::Project;

/// The simulator.
const PROGRAM: &str = "baton-sim";
/// How long a simulation may take: all cases together take minutes.
const SIMULATION_LIMIT: Duration = Duration::from_secs(3600);

/// What to simulate.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the simulator: `--seed N`, `--load SHARE`, `--quick`, `--json FILE`; `--help` shows them
    #[arg(num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    args: Vec<String>,
}

impl Options {
    /// The small cluster that CI looks at.
    pub(crate) fn quick() -> Self {
        Self { args: vec!["--quick".into()] }
    }
}

/// Builds the simulator and runs it.
pub(crate) fn run(project: &Project, options: &Options, purpose: Purpose) -> Result<(), Box<dyn Error>> {
    let mut build = project.cargo(&["build", "--profile", purpose.profile(), "--package", PROGRAM]);
    project.runner().run(&mut build, BUILD_LIMIT)?;
    let mut command = Command::new(purpose.built(project, PROGRAM)?);
    command.args(&options.args).current_dir(project.root());
    Ok(project.runner().run(&mut command, SIMULATION_LIMIT)?)
}
