//! Who else hosts what: the table that the control plane hands to the data plane.
//!
//! Plain values, made elsewhere and replaced as a whole. A table is what was known a moment ago: a node in it may be
//! gone, and the figures are hints for choosing, never a promise.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use baton_catalog::{AppName, FunctionName};

/// Every node of the cluster that is alive but this one, and what they host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// How busy this node's own cores were in the last second, in thousandths.
    pub own_cpu: u32,
    /// The nodes that answer, by name.
    pub peers: BTreeMap<String, Peer>,
    /// Per app and function, which of the peers host it. A function without a host has no entry.
    pub functions: BTreeMap<AppName, BTreeMap<FunctionName, Vec<Host>>>,
}

/// A node that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it takes calls of other nodes.
    pub address: SocketAddr,
    /// Another number at each start of the node: what was begun with one is over with the next.
    pub incarnation: u64,
    /// It takes no new work if another node can.
    pub draining: bool,
    /// How busy its cores were in the last second, in thousandths.
    pub cpu: u32,
}

/// One function on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The node: a key of [`Hosts::peers`].
    pub node: String,
    /// Where it takes calls of other nodes.
    pub address: SocketAddr,
    /// Which start of the node this is about.
    pub incarnation: u64,
    /// The version of the app that runs there.
    pub version: u64,
    /// Replicas that are ready.
    pub ready: u32,
    /// Requests in the hands of replicas.
    pub in_flight: u32,
    /// Calls that wait for a replica.
    pub queued: u32,
}

impl Hosts {
    /// Who hosts a function, in the order of their names.
    #[must_use]
    pub fn of(&self, app: &str, function: &str) -> &[Host] {
        let functions = self.functions.get(app);
        functions.and_then(|functions| functions.get(function)).map_or(&[], Vec::as_slice)
    }

    /// The nodes as the wire between them wants to know them.
    pub(crate) fn as_peers(&self) -> Vec<baton_transfer::Peer> {
        let peer = |(name, peer): (&String, &Peer)| baton_transfer::Peer {
            name: name.clone(),
            address: peer.address,
            incarnation: peer.incarnation,
        };
        self.peers.iter().map(peer).collect()
    }
}
