//! Bulk lanes without sockets and clocks.
//!
//! ```text
//!  receiver: Fetcher, one a peer                         holder: Sender, one a connection
//!   pull ─ stripe ─┬─ lane 1 ── Pull, Credit, Abort, Ack ──▶ ready: pull, pull, pull ⟳ one chunk each
//!        ─ stripe ─┴─ lane 2 ◀──────── Piece, End ────────── settling: sent, not yet taken by the peer's kernel
//! ```
//! A stripe knows the byte that it wants next; a lane that breaks gives its stripes back, and another lane goes on at that byte.

mod fetcher;
mod sender;

pub use fetcher::{Fetcher, LaneId, PullError, PullId, Sink};
pub use sender::{Sender, Sending, Verdict};
