//! Why the cluster's store did not do what it was asked to.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::artifacts::{ArtifactError, ArtifactHash};

/// What a client of the store says went wrong.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why something that needs the cluster was not done.
#[derive(Debug)]
pub enum ClusterError {
    /// No server of the store answers, or none that may decide: nothing was changed, or it will be seen later that it was.
    Unreachable {
        /// The servers.
        servers: String,
        /// What was found last.
        why: Cause,
    },
    /// Another node changed the same thing at the same time, and was first.
    Conflict {
        /// What both changed.
        what: String,
    },
    /// A row is larger than the store's servers take.
    TooLarge {
        /// What the row is about.
        what: String,
        /// Its bytes.
        bytes: usize,
        /// What they take.
        most: usize,
    },
    /// The store answered, and will not do it.
    Refused {
        /// The servers.
        servers: String,
        /// Why.
        why: Cause,
    },
    /// The store has no artifact of this hash.
    Absent {
        /// The hash.
        hash: ArtifactHash,
    },
    /// An artifact cannot be brought to the disk, or is not what its name says.
    Artifact(ArtifactError),
    /// A living node has the name.
    NameTaken {
        /// The name.
        node: String,
        /// Where that node's gateway is.
        gateway: String,
    },
    /// No node of this name is alive.
    NoNode {
        /// The name.
        node: String,
    },
    /// A file for the way to the store cannot be used.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cluster has secrets, and this node not the key to them.
    NoSecretsKey,
    /// There are no random numbers to seal a secret with.
    NotSealed,
    /// A row cannot be written as JSON: a bug.
    Encode(serde_json::Error),
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { servers, why } => {
                write!(
                    f,
                    "the cluster's store ({servers}) is not reachable: {}; what runs goes on",
                    chain(why)
                )
            }
            Self::Conflict { what } => {
                write!(f, "another node changed {what} at the same time, and was first")
            }
            Self::TooLarge { what, bytes, most } => write!(
                f,
                "{what} takes {} KiB as a row, and the cluster's store takes {} KiB",
                bytes.div_ceil(1024),
                most >> 10
            ),
            Self::Refused { servers, why } => {
                write!(f, "the cluster's store ({servers}) refuses: {}", chain(why))
            }
            Self::Absent { hash } => write!(f, "the cluster's store has no artifact {hash:.12}"),
            Self::Artifact(source) => write!(f, "from the cluster's store: {source}"),
            Self::NameTaken { node, gateway } => {
                write!(f, "a node named {node} is alive already; its gateway is at {gateway}")
            }
            Self::NoNode { node } => write!(f, "no node named {node} is alive"),
            Self::File { path, source } => write!(f, "cannot use {}: {source}", path.display()),
            Self::NoSecretsKey => {
                f.write_str("the cluster has secrets, and this node not the key to them: functions that need them do not run here")
            }
            Self::NotSealed => f.write_str("there are no random numbers to seal a secret with"),
            Self::Encode(source) => write!(f, "the row cannot be written: {source}"),
        }
    }
}

impl std::error::Error for ClusterError {}

impl ClusterError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "try again when a server answers: `baton cluster status` tells",
            Self::Conflict { .. } => "look at what is there now (`baton ps`), and try again",
            Self::TooLarge { .. } => "raise `max_payload` in the configuration of nats-server",
            Self::Refused { .. } => {
                "nats-server 2.10 or later needs JetStream (`jetstream` in its configuration), and must let this user use it"
            }
            Self::Absent { .. } | Self::Artifact(_) => "deploy the app again: that uploads what is missing",
            Self::NameTaken { .. } => "choose another --name",
            Self::NoNode { .. } => "`baton nodes` lists those that are",
            Self::NoSecretsKey => "give this node the file of the others: --cluster-secrets FILE",
            Self::NotSealed => "try again",
            Self::File { .. } => "name a file that this user may read",
            Self::Encode(_) => "report this as a bug",
        }
    }
}

/// An error with what caused it, since clients hide the best part there.
fn chain(error: &Cause) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
