//! Policies of functions as a library: what a sidecar proxy does, in the path of the request, without a process or a hop of its
//! own.
//!
//! ```text
//!  manifest ─▶ AppPolicies ─▶ Set ─▶ a Chain for each function
//!
//!  request ─▶ Chain::admit: early handlers, over its head ──▶ Ticket ──▶ body ──▶ Chain::check: late ones ──▶ function
//!  answer  ◀──────────────── Ticket::end: the same handlers, in reverse ◀───────────────────────────────────────┘
//! ```
//!
//! Everything here is `(settings, state, view of the request, now) → verdict`: no clock is read, no file, no socket. Whoever
//! calls brings the time, and the bytes of key files as they change. All of it lives on one thread.
#![forbid(unsafe_code)]

mod answer;
mod chain;
mod clients;
mod edits;
mod jwt;
mod keys;
mod limits;
mod records;
mod report;
mod request;
mod retries;
mod schema;
mod set;
mod span;
mod ticket;
mod verdict;

pub use answer::Outcome;
pub use chain::{Chain, Late, is_guarded};
pub use jwt::KeyFile;
pub use report::{HandlerReport, Report};
pub use request::{Client, HeadTooLarge, Now, Request};
pub use retries::{Attempt, Failed};
pub use set::{Around, Before, CompileError, Set};
pub use span::{SpanEnd, Trace};
pub use ticket::{Line, Ticket};
pub use verdict::Refusal;
