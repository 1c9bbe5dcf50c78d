//! Who the other nodes are.

use std::net::SocketAddr;
use std::time::Duration;

/// Another node, as the members of the cluster have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name; with TLS, the name in its certificate.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Which of its lives this is: connections of other lives are refused.
    pub incarnation: u64,
}

/// How it is with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Its name.
    pub name: String,
    /// Calls to it can be made: both sides have said hello, and it was heard from within 2 s.
    pub up: bool,
    /// It takes no more calls.
    pub draining: bool,
    /// How long the last look at it took.
    pub round_trip: Option<Duration>,
    /// Calls to it that are not answered.
    pub in_flight: usize,
    /// Why there is no connection, as far as that is known.
    pub trouble: Option<String>,
}
