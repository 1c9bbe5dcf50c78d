//! Two machines of one network, as far as this one can be that: namespaces `a` and `b` with a core each, and a hub.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use baton_netns::Net;
use tempfile::TempDir;

use crate::proc::{Ending, Server, ServerSpec};
use crate::systems::{self, Setup, SystemError};

/// How long a server may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Makes two outputs one, which is what readiness is looked for in, and is not there any more when the server runs.
const BOTH_OUTPUTS: &str = "exec \"$0\" \"$@\" 2>&1";

/// Where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// The first machine.
    A,
    /// The second.
    B,
    /// What is between them.
    Hub,
}

impl Site {
    /// The number of its namespace; the hub has none.
    fn member(self) -> Option<usize> {
        match self {
            Self::A => Some(0),
            Self::B => Some(1),
            Self::Hub => None,
        }
    }
}

/// The network, and a directory for what its machines write.
#[derive(Debug)]
pub(super) struct Place {
    // The first to be dropped: what a signal takes away is waited for.
    _ending: Ending,
    net: Arc<Net>,
    state: TempDir,
    cores: [usize; 2],
}

impl Place {
    /// Makes it; it is gone after `limit` at the latest, and the program with it.
    pub(super) fn make(setup: &Setup, limit: Duration) -> Result<Self, SystemError> {
        let net = Arc::new(Net::star(2).map_err(SystemError::Net)?);
        let state =
            tempfile::Builder::new().prefix("baton-transfer-").tempdir().map_err(SystemError::State)?;
        let (watched, path) = (Arc::clone(&net), state.path().to_owned());
        let clean = move || {
            watched.remove();
            // What cannot be removed now is a temporary directory's.
            let _ = std::fs::remove_dir_all(path);
        };
        let ending = Ending::watch(limit, clean).map_err(SystemError::State)?;
        let cores = [setup.server_core, setup.load_core];
        Ok(Self { _ending: ending, net, state, cores })
    }

    pub(super) fn address(&self, site: Site) -> Ipv4Addr {
        site.member().map_or(self.net.hub_address(), |member| self.net.address(member))
    }

    pub(super) fn socket(&self, site: Site, port: u16) -> SocketAddr {
        SocketAddr::from((self.address(site), port))
    }

    /// A directory that nothing else has.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf, SystemError> {
        let path = self.state.path().join(name);
        std::fs::create_dir_all(&path).map_err(SystemError::State)?;
        Ok(path)
    }

    /// The core of a machine.
    pub(super) fn core(&self, site: Site) -> Option<usize> {
        self.cores.get(site.member()?).copied()
    }

    /// `program`, to be started on a machine; it does not outlive this thread.
    fn words(&self, site: Site, program: &Path) -> Vec<OsString> {
        let namespace = match site.member() {
            Some(member) => self.net.namespace(member),
            None => self.net.hub(),
        };
        let words = ["netns", "exec", &namespace, "setpriv", "--pdeathsig", "KILL"].map(OsString::from);
        words.into_iter().chain([program.into()]).collect()
    }

    pub(super) fn command(&self, site: Site, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(self.words(site, program));
        command
    }

    /// Starts a server on a machine, on the machine's own core if it is to be `pinned`.
    pub(super) fn start<T>(
        &self,
        (site, pinned): (Site, bool),
        name: &str,
        (program, args): (&Path, Vec<OsString>),
        ready: impl FnMut(&str) -> Option<T>,
    ) -> Result<(Server, T), SystemError> {
        if !systems::is_there(program) {
            return Err(SystemError::Missing(program.into()));
        }
        let mut words = self.words(site, Path::new("sh"));
        words.extend(["-c".into(), BOTH_OUTPUTS.into(), program.into()]);
        words.extend(args);
        let spec = ServerSpec {
            name: name.into(),
            program: "ip".into(),
            args: words,
            env: Vec::new(),
            core: self.core(site).filter(|_| pinned),
            ready_within: READY_WITHIN,
        };
        Ok(Server::start(&spec, ready)?)
    }

    /// Does `work` from inside the first machine.
    pub(super) fn on_a<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SystemError> {
        self.net.inside(0, work).map_err(SystemError::State)
    }
}
