//! Node side of process replicas: start, sandbox, supervise, call.

pub mod probe;
pub mod process;
pub mod sandbox;
pub mod spawn;
mod sys;

pub use probe::{Capability, Machine, probe};
pub use process::{Mappings, Output, ProcessReplica, StartError};
pub use sandbox::{Limits, NetworkAccess, Role, SpawnSpec};
pub use spawn::{Child, ExitReason, SpawnError, Step, spawn};
