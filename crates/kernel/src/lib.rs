//! Programs in the kernel, and what loads them.
//!
//! - [`Plane`]: where the kernel hands payloads over between the replicas of one app (`wake = "ebpf"`). Its program,
//!   `bpf/handover.bpf.c`, has a copy of everything that decides in maps of its own; two apps share nothing.
//! - [`probe()`]: whether this machine can, and if not, why, in words for people.
//!
//! The object is built from C by `cargo xtask kernel`, committed, and embedded here; CI builds it again and compares.
#![deny(clippy::indexing_slicing)]

mod cause;
#[cfg(test)]
mod layout;
mod network;
mod plane;
mod ports;
mod probe;
mod scribe;
mod sockets;
mod sys;

pub use cause::Cause;
pub use plane::{EdgeCounts, Ends, KernelError, Plane, Seat, Setup};
pub use ports::{PortCounts, Ports, PortsError, Traffic, Undeclared};
pub use probe::{Unsupported, probe};
pub use scribe::Scribe;
