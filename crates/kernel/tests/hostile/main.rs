//! Replicas that lie to the kernel's program, over raw sockets, one way at a time.
//!
//! Each lie is refused, counted, passed on to the node as it was written, and changes nothing: no owner, no range, no count of an
//! edge; and the next honest packet of everybody works. Skipped loudly where the kernel cannot hand over.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod derived;
mod edges;
mod messages;
mod model;
mod moves;
mod own;
mod said;
mod sockets;
mod threads;
mod world;
