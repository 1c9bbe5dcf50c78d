//! One invocation from start to end: admission, hand-over, deadline, receipt.
//!
//! [`Flow`] is the data plane of a node. It lives on one thread: replicas, queues and deadlines are plain cells, and
//! every replica's link is pumped by a task of its own. Other threads reach it through a [`PlaneHandle`].
#![forbid(unsafe_code)]

mod app;
mod edges;
mod error;
mod flow;
mod inspect;
mod invoke;
mod lifecycle;
mod logs;
mod node;
mod plane;
mod receipts;
mod replica;
mod slots;
mod start;
pub mod status;

pub use baton_abi::head::Field;
pub use error::InvokeError;
pub use flow::{AppSpec, DeployError, Deployed, DirectCall, DirectReply, Flow, Target};
pub use invoke::{Body, Head, Reply, Upload};
pub use node::Options;
pub use plane::{PlaneGone, PlaneHandle, PlaneInbox, plane_channel};
