//! Lanes over TCP and TLS.
//!
//! | thread | what runs there |
//! |---|---|
//! | the data thread (whoever calls [`Endpoint::start`]) | call lanes, services |
//! | `baton-transfer` | listening, dialling, handshakes, bulk lanes |
//!
//! A call lane is made on `baton-transfer` and handed to the data thread when both sides have said hello, so that a handshake never
//! delays a call. Between the threads: bounded channels, and the vault behind a lock that is held for microseconds.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::counts::Counters;
use crate::limits::Limits;
use crate::payload::{Incoming, Outcome};
use crate::reference::NoRandom;
use crate::security::{Secured, Security, SecurityError};
use crate::vault::{Now, Vault};

mod calls;
mod endpoint;
mod fetch;
mod frames;
mod greet;
mod lane;
mod peers;
mod pipe;
mod plane;
mod serve;

pub use endpoint::Endpoint;
pub use peers::{Peer, PeerState};

/// How an endpoint is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster: nodes of others are refused.
    pub cluster: String,
    /// This node; with TLS, the name in its certificate.
    pub node: String,
    /// Which of its lives this is.
    pub incarnation: u64,
    /// Where to listen; port 0 for any.
    pub listen: SocketAddr,
    /// How connections are secured.
    pub security: Security,
    /// Without TLS on addresses that others can reach as well.
    pub allow_plaintext: bool,
    /// Bounds.
    pub limits: Limits,
}

/// Why an endpoint does not start.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be had.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Connections cannot be secured.
    Security(SecurityError),
    /// A name is empty, longer than [`NAME_MAX`](crate::limits::NAME_MAX), or has control characters.
    Name {
        /// Which.
        what: &'static str,
    },
    /// The thread cannot be had.
    Thread(io::Error),
    /// The system gives no random bits.
    NoRandom,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen { address, error } => {
                write!(
                    f,
                    "cannot listen on {address} for other nodes: {error}; choose another address or port"
                )
            }
            StartError::Security(error) => error.fmt(f),
            StartError::Name { what } => write!(
                f,
                "the name of the {what} is empty, too long ({} bytes are the most), or has control characters",
                crate::limits::NAME_MAX
            ),
            StartError::Thread(error) => write!(f, "cannot start the thread for transfers: {error}"),
            StartError::NoRandom => NoRandom.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Who serves calls of other nodes.
pub trait Service {
    /// Serves one call of node `from`. The future is dropped when the caller cancels or is lost.
    fn serve(&self, from: Rc<str>, call: Incoming) -> Pin<Box<dyn Future<Output = Outcome>>>;
}

/// What both threads use.
pub(crate) struct Shared {
    settings: Settings,
    secured: Secured,
    address: SocketAddr,
    start: Instant,
    vault: Mutex<Vault>,
    counters: Counters,
    peers: Mutex<Vec<Peer>>,
    /// What tells this machine's kernel from others; 0 if that is not known.
    machine: u64,
    /// Peers that run under the same kernel, as they say.
    near: Mutex<BTreeSet<String>>,
    /// Changes when holds ended or peers changed: lanes look whether that is about them.
    news: watch::Sender<u64>,
}

impl Shared {
    fn now(&self) -> Now {
        self.start.elapsed()
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn vault(&self) -> std::sync::MutexGuard<'_, Vault> {
        // A panic under the lock leaves the vault whole: each of its steps is.
        self.vault.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn peer(&self, node: &str) -> Option<Peer> {
        let peers = self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        peers.iter().find(|peer| peer.name == node).cloned()
    }

    /// Whether `peer` is still what it was.
    fn knows(&self, peer: &Peer) -> bool {
        self.peer(&peer.name).is_some_and(|known| known == *peer)
    }

    /// Takes note of where a peer runs.
    fn note_machine(&self, peer: &Peer, machine: u64) {
        let is_near = runs_here(peer.address, machine, self.machine);
        let mut near = self.near();
        if is_near {
            near.insert(peer.name.clone());
        } else {
            near.remove(&peer.name);
        }
    }

    /// Whether a peer runs under the same kernel: then what is sent to it is copied from memory to memory, whatever interface it
    /// goes over.
    fn is_near(&self, peer: &Peer) -> bool {
        self.near().contains(&peer.name)
    }

    fn near(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.near.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Whether who is at `address` and says that it runs under kernel `theirs` runs under `ours`. A kernel that is not known is nobody's.
fn runs_here(address: SocketAddr, theirs: u64, ours: u64) -> bool {
    address.ip().is_loopback() || (theirs != 0 && theirs == ours)
}

/// The pause after the `failures`-th failure in a row.
fn pause(failures: u32) -> Duration {
    use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};
    BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests;
