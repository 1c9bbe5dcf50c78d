//! Steps that run beside the others: another `cargo xtask test` with these steps alone, whose output is kept and shown at its end.
//!
//! What waits for the network, or compiles with one thread, leaves room that the other steps use.

use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;
use std::{env, io};

use crate::child;
use crate::project::Project;

/// Where its output is kept, in the target directory.
const OUTPUT: &str = "beside.log";

/// How long they may take together.
const LIMIT: Duration = Duration::from_secs(2400);

/// The steps that run, until they are joined; they are ended if they are not.
#[derive(Debug)]
pub(crate) struct Beside<'a> {
    project: &'a Project,
    child: Child,
    output: PathBuf,
    steps: String,
}

impl<'a> Beside<'a> {
    /// Starts steps by name.
    pub(crate) fn start(project: &'a Project, steps: &[&str]) -> Result<Self, Box<dyn Error>> {
        let output = project.target_dir()?.join(OUTPUT);
        let file = File::create(&output)?;
        let mut command = Command::new(env::current_exe()?);
        command.arg("test").args(steps.iter().flat_map(|step| ["--only", step]));
        command.current_dir(project.root()).stdout(file.try_clone()?).stderr(file);
        let child = project.runner().start(&mut command)?;
        Ok(Self { project, child, output, steps: steps.join(", ") })
    }

    /// Waits for their end and shows what they said.
    pub(crate) fn join(mut self) -> Result<(), Box<dyn Error>> {
        let outcome = self.project.runner().join(&mut self.child, &self.steps, LIMIT);
        io::copy(&mut File::open(&self.output)?, &mut io::stdout())?;
        Ok(outcome?)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            child::stop(&mut self.child);
        }
    }
}
