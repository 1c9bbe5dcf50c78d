//! One invocation from start to end: admission, hand-over, deadline, receipt.
//!
//! [`Flow`] is the data plane of a node. It lives on one thread: replicas, queues and deadlines are plain cells, and
//! every replica's link is pumped by a task of its own. Other threads reach it through a [`PlaneHandle`].
#![forbid(unsafe_code)]

mod app;
mod cells;
pub mod coldstart;
mod counted;
mod deploy;
mod edges;
mod elsewhere;
mod error;
mod flow;
mod guarded;
mod hosting;
mod hosts;
mod inspect;
mod invoke;
mod landing;
mod lifecycle;
mod logs;
mod node;
mod outgoing;
mod outlet;
mod plane;
mod policy;
mod programs;
mod puts;
mod receipts;
mod replica;
mod scale;
mod secrets;
mod shim;
mod slots;
mod snapshots;
mod spill;
mod start;
pub mod status;
mod stream;
mod tally;
mod traces;
mod traffic;
mod tunnels;
pub mod wake;
mod watch;
mod zygote;

pub use baton_abi::head::Field;
pub use baton_abi::plan::Patch;
pub use baton_policy::{Refusal as Refused, is_guarded};
pub use deploy::{AppSpec, BundledFiles, Deployed};
pub use error::{DeployError, InvokeError};
pub use flow::{ADMITTED_HEADER, DirectCall, DirectParts, DirectReply, Flow, Listeners, Target};
pub use hosts::{Host, Hosts, Peer};
pub use invoke::{Body, Head, Reply, Upload};
pub use landing::Landing;
pub use node::Options;
pub use outgoing::{Answered, Fetch, FetchError, Moved, Outgoing, OutgoingBody, Pieces, Revoked};
pub use plane::{PlaneGone, PlaneHandle, PlaneInbox, plane_channel};
pub use policy::{ClientFacts, PolicyError, PolicyStatus};
pub use scale::ScaleError;
pub use secrets::SecretEnv;
pub use snapshots::secret;
pub use stream::{Feed, Offer, Over, Part, PartKind, Parts};
pub use traces::{Span, Value};
pub use traffic::{Next, Traffic};
pub use tunnels::{CONNECTIONS_MAX, Door, Doors, Leads, Told, Tunnels};
pub use watch::{RECEIPT_HEADER, Sampling, TraceContext, Traced, Wish};

/// The wire between nodes, as far as those need it who have a data plane join a cluster.
pub mod transfer {
    pub use baton_transfer::{Endpoint, Limits, Security, SecurityError, Settings, StartError};
}
