//! Policies in the path of a request: where `baton-policy` is hooked into an invocation.
//!
//! ```text
//!  head ─▶ begin: early handlers ─▶ body into the pool ─▶ finish: late handlers, attempts ─▶ answer, changed, told of
//! ```
//!
//! Entries pass them: requests of the gateway and of the admin API, on the node that takes them. So do calls between functions
//! that leave their node, on the caller's node, as far as handlers say that they are for them. Calls over edges on one node pass
//! none: there is no node in between.

mod keep;
mod run;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use baton_policy::{Around, Chain, Client, Line, Now, Outcome, Refusal, SpanEnd};

pub use self::keep::{PolicyError, PolicyStatus};
pub(crate) use self::run::{begin, conclude, edge, finish, prepare};
use crate::error::InvokeError;
use crate::node::Node;

/// Who sent a request, as the gateway knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFacts {
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its identity by the certificate that it showed.
    pub identity: Option<Rc<str>>,
    /// Whether its connection is encrypted.
    pub is_secure: bool,
}

impl ClientFacts {
    fn as_client(&self) -> Client<'_> {
        Client {
            address: self.address,
            identity: self.identity.as_deref(),
            is_secure: self.is_secure,
            caller: None,
            trace: None,
        }
    }
}

/// What the handlers of one app see of their node.
struct AppAround {
    node: Rc<Node>,
    app: String,
}

impl Around for AppAround {
    fn ns(&self) -> u64 {
        ns(&self.node, Instant::now())
    }

    fn line(&self, line: &Line<'_>) {
        self.node.logs.borrow_mut().add_served(&self.app, line);
    }

    fn id(&self) -> u64 {
        self.node.watch.draw()
    }

    fn span(&self, span: &SpanEnd<'_>) {
        self.node.traces.borrow_mut().policies(&self.app, span);
    }
}

/// The clock of policies: it runs with the node, and is never near 0.
fn ns(node: &Node, at: Instant) -> u64 {
    u64::try_from(node.until(at).as_nanos()).unwrap_or(u64::MAX).saturating_add(1_000_000_000)
}

fn now(node: &Node, chain: &Chain, at: Instant) -> Now {
    let wall = || rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
    let unix_s = if chain.reads_wall() { u64::try_from(wall()).unwrap_or(0) } else { 0 };
    Now { ns: ns(node, at), unix_s }
}

/// Whether the function is to blame: what a breaker counts. `None` where it had no say.
fn has_failed(error: &InvokeError) -> Option<bool> {
    let had_no_say = matches!(
        error,
        InvokeError::Refused(_)
            | InvokeError::Unknown
            | InvokeError::HeadTooLarge
            | InvokeError::TooLarge { .. }
            | InvokeError::Draining
            | InvokeError::PoolFull
            | InvokeError::QueueFull
    );
    (!had_no_say).then(|| error.status() >= 500)
}

fn outcome_of(error: &InvokeError) -> Outcome {
    Outcome { status: error.status(), has_failed: has_failed(error), bytes_out: 0 }
}

fn refused(refusal: Refusal) -> InvokeError {
    InvokeError::Refused(Box::new(refusal))
}
