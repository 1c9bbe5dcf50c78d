//! Process replicas that hand over in one way or another: each way is a system, and one that cannot be had is left out.

use crate::app::{App, Isolation, Wake};
use crate::proc::StartError;
use crate::systems::{self, Fleet, SystemError};

use super::{Options, SuiteError};

/// Starts an app of processes that hand over this way. Without the node's consent there is a note, and nothing else.
pub(super) fn start(
    options: &Options,
    app: &App,
    wake: Wake,
    notes: &mut Vec<String>,
) -> Result<Option<Fleet>, SuiteError> {
    let app = app.clone().isolated(Isolation::Process).map_err(SystemError::App)?.waking(wake);
    let system = wake.system();
    let fleet = match systems::start_app(&options.setup, system, &app) {
        Err(SystemError::Start(StartError::NotReady { tail, .. })) if wake == Wake::Ebpf => {
            notes.push(format!("{system} is not to be had: {}", reason(&tail)));
            return Ok(None);
        }
        other => other?,
    };
    if wake == Wake::Ring {
        return Ok(Some(fleet));
    }
    let told = fleet.apps().into_iter().next().unwrap_or_default();
    if told["wake"].as_str() == Some(wake.word()) {
        return Ok(Some(fleet));
    }
    let because = told["wake_because"].as_str().unwrap_or("the node does not say who hands over");
    notes.push(format!("{system} is not to be had: {because}"));
    Ok(None)
}

/// The line of a node's last words that says why it did not start.
fn reason(tail: &str) -> &str {
    let mut lines = tail.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.contains("wake") || line.starts_with("error"));
    error.or_else(|| lines.next_back()).unwrap_or("the node did not start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_line_that_says_it() {
        let tail = "building\nerror: baton.toml:3: unknown key `wake`\n  help: remove it\n";
        assert_eq!(reason(tail), "error: baton.toml:3: unknown key `wake`");
        assert_eq!(reason("one\ntwo\n"), "two");
        assert_eq!(reason(""), "the node did not start");
    }
}
