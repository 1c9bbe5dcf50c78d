//! Router's and scaler's decisions as pure functions: `(state, event, now) → decision`.
//!
//! Nothing here holds a clock, a thread or a socket. Time comes in as a span since a start of the caller's
//! choosing, so that a test replays a week of crashes in a millisecond and twice the same way.
//!
//! ```text
//!   call ──route──▶ There(peer)    ──▶ another node
//!            ├────▶ Nowhere        ──▶ 503
//!            └────▶ Here ──admit──▶ Run(replica) ──▶ the replica's ring
//!                            ├────▶ Queue        ──▶ waits for a replica of the function
//!                            └────▶ Refuse       ──▶ 429, 503 or an error to the calling function
//!
//!   two versions ──place, turn──▶ which answers      answers ──judge──▶ whether the newer one goes
//!   deployments, members ──assign──▶ which nodes host which functions
//!
//!   load of a function ──look──▶ how many replicas there shall be
//! ```
#![forbid(unsafe_code)]

mod admission;
mod affinity;
mod backoff;
mod canary;
mod choice;
mod cluster;
mod groups;
mod route;
mod scale;
mod split;

pub use admission::{Admission, Waiting, admit};
pub use affinity::home_core;
pub use backoff::{
    Backoff, DELAY_MAX, DELAY_MIN, HEALTHY_AFTER, RAPID_FAILURES_MAX, RAPID_FAILURES_OF_A_LOOP,
};
pub use canary::{Answered, Terms, Verdict, judge};
pub use choice::{Load, choose};
pub use cluster::{Assignment, Demand, Homeless, Need, Place, Policy, Seat, assign};
pub use groups::{KeyTooCrowded, Room, Tenant, group};
pub use route::{BUSY_FULL, Here, Route, There, busy, reported, route};
pub use scale::{Bounds, DOZE_MAX, Decision, LOOK_EVERY, STABLE_MAX, Scaler, Sight, TARGET_PERCENT};
pub use split::{Place as Standing, Share, place, turn};
