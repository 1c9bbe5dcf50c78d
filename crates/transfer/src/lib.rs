//! The data plane between nodes: calls, and pulls of what calls refer to.
//!
//! ```text
//!   data thread of node A                                         data thread of node B
//!  ┌──────────────────────┐   call lane A→B: Call, Cancel, Ping   ┌──────────────────────┐
//!  │ Endpoint::call ──────┼──────────────────────────────────────▶│ Service::serve       │
//!  │                      │◀──────────────────────────────────────┼─ Outcome             │
//!  └──────────┬───────────┘          Reply, Pong, GoAway          └──────────┬───────────┘
//!        hold │ body larger than a frame carries                        pull │ into a room of B's pool
//!             ▼                                                              ▼
//!  ┌─ baton-transfer ─────┐   bulk lanes B→A: Pull, Credit, Ack   ┌─ baton-transfer ─────┐
//!  │ Vault ─▶ Sender      │◀──────────────────────────────────────┼─ Fetcher             │
//!  │ pages of A's pool ═══╪═══════════ Piece, End ═══════════════▶│ pages of B's pool    │
//!  └──────────────────────┘                                       └──────────────────────┘
//! ```
//! - A **reference** ([`mod@reference`]) is a token and a length. It is good for one receiver, one range, a time and a number of
//!   retrievals, and only while the holder's **vault** ([`vault`]) has the hold.
//! - **Lanes** are state machines without sockets and clocks ([`call`], [`bulk`]): `driver` runs them over TCP or TLS, the simulator
//!   of the tests over connections that it breaks.
//! - A hold ends by acknowledgement, revocation or its time; never by sending. Its memory goes when no kernel reads it any more: after
//!   the peer's kernel has the bytes, or after the connection that sends them was reset.
//! - What may be large has a name in [`limits`].
//!
//! # How bytes are sent
//! | to | how | copies by this process's processor |
//! |---|---|---|
//! | another machine | `sendfile` from the pool's file | none |
//! | another machine, up to 1 MiB | `write` from the mapping | one, into the socket's buffer |
//! | loopback, and a node under the same kernel | `write` from the mapping | one, into the socket's buffer |
//! | anywhere, with TLS | encrypted from the mapping | one, which is the encryption |
//!
//! Whether a node runs under the same kernel its hello says (`driver`).
//!
//! They are received by `recv` straight into the mapping; with TLS decrypted, then copied there. Why not `sendfile` everywhere, with numbers:
//! `docs/adr/0014-references-and-lanes.md`. `examples/measure.rs` of this crate measures calls and pulls beside plain sockets.
//!
//! Pages that were never touched cost more than the wire: a pull into fresh ones is two to three times slower than into hot ones. Rooms
//! are to be taken from memory that was used before.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod bulk;
pub mod call;
mod counts;
mod driver;
pub mod limits;
pub mod nudge;
mod payload;
pub mod reference;
mod security;
pub mod vault;
pub mod wire;

pub use bulk::PullError;
pub use call::CallError;
pub use counts::{Counted, Counts};
pub use driver::{Endpoint, Peer, PeerState, Service, Settings, StartError};
pub use limits::Limits;
pub use payload::{Answer, AnswerKind, Arrived, Call, Held, Incoming, Outcome, Owner, Payload, Place, Room};
pub use reference::{Reference, Token};
pub use security::{Security, SecurityError};
pub use vault::{HeldRow, HoldError, Refusal, Terms};

#[cfg(test)]
mod sim;
