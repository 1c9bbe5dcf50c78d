//! Starting the same executable as a plain process: no sandbox, no node, and it ends at its first instruction of `main`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::proc;

use super::SuiteError;
use super::starts::now_ns;
use super::wrong;

const NAME: &str = "forkexec";

/// From right before the fork to what the process says about its `main`.
pub(super) fn times(program: &Path, core: usize, count: usize) -> Result<Vec<u64>, SuiteError> {
    (0..count).map(|_| once(program, core)).collect()
}

fn once(program: &Path, core: usize) -> Result<u64, SuiteError> {
    let mut command = Command::new(program);
    command.arg("handshake").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |error| SuiteError::Program { system: NAME.into(), error };
    let (forked_ns, child) = proc::pinned(Some(core), || (now_ns(), command.spawn()))?;
    let output = child.and_then(std::process::Child::wait_with_output).map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let began_ns: Option<u64> = text.lines().find_map(|line| line.trim().parse().ok());
    let began_ns = began_ns.ok_or_else(|| wrong(NAME, format!("it said no time but: {text}")))?;
    Ok(began_ns.saturating_sub(forked_ns))
}
