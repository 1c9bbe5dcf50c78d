//! Node side of replicas, whatever holds them: start, sandbox, supervise, call.
//!
//! ```text
//!   Unborn::new ───▶ Launcher::order ───▶ Peer { link, Body::Process }
//!   zygote::start ───▶ Zygote::fork ────▶ Peer { link, Body::Process }
//!   template::start ─▶ Template::fork ──▶ Cell, Peer { link, Body::Compartment } of each seat
//! ```

pub mod cell;
pub mod interpreter;
mod line;
pub mod peer;
pub mod probe;
pub mod process;
pub mod root;
pub mod sandbox;
pub mod spawn;
mod start_error;
mod sys;
pub mod template;
pub mod trace;
pub mod turns;
pub mod zygote;

pub use cell::{Cell, Heard};
pub use line::Waker;
pub use peer::{Body, Peer};
pub use probe::{Capability, Machine, probe};
pub use process::{Guarded, Mappings, Output, ProcessReplica, Unborn};
pub use root::{Root, RootError};
pub use sandbox::{Limits, NetworkAccess, Role, SpawnSpec};
pub use spawn::{Child, ExitReason, Launcher, SpawnError, Step, spawn};
pub use start_error::StartError;
pub use template::Template;
pub use zygote::{Said, Zygote};
