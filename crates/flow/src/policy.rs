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

use baton_policy::{Around, Client, Line, Now, Outcome, Refusal, SpanEnd};

pub use self::keep::{PolicyError, PolicyStatus};
pub(crate) use self::run::{begin, conclude, edge, finish, prepare};
use crate::error::InvokeError;
use crate::logs::Writer;
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
        let Line { function, method, path, status, duration_ns, bytes_in, bytes_out, invocation, key } =
            *line;
        let level = if status >= 500 { "warn" } else { "info" };
        let writer = Writer { app: &self.app, function, holder: 0 };
        self.node.logs.borrow_mut().add_written(writer, level, invocation, |message| {
            message.push_str(method);
            message.push(' ');
            message.push_str(path);
            let mut number = |name: &str, value: u64| {
                message.push_str(name);
                push_number(message, value);
            };
            number(" status=", u64::from(status));
            number(" us=", duration_ns / 1000);
            number(" in=", bytes_in);
            number(" out=", bytes_out);
            if let Some(key) = key {
                message.push_str(" key=");
                message.push_str(key);
            }
        });
    }

    fn id(&self) -> u64 {
        self.node.watch.draw()
    }

    fn span(&self, span: &SpanEnd<'_>) {
        self.node.traces.borrow_mut().policies(&self.app, span);
    }
}

/// Decimal digits, without the machinery of formatting: a line is written for every request.
fn push_number(to: &mut String, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        if let (Some(digit), Ok(low)) = (digits.get_mut(at), u8::try_from(value % 10)) {
            *digit = b'0' + low;
        }
        value /= 10;
        if value == 0 {
            break;
        }
    }
    to.push_str(std::str::from_utf8(digits.get(at..).unwrap_or_default()).unwrap_or_default());
}

/// The clock of policies: it runs with the node, and is never near 0.
fn ns(node: &Node, at: Instant) -> u64 {
    u64::try_from(node.until(at).as_nanos()).unwrap_or(u64::MAX).saturating_add(1_000_000_000)
}

fn now(node: &Node, at: Instant) -> Now {
    let wall = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Now { ns: ns(node, at), unix_s: u64::try_from(wall.tv_sec).unwrap_or(0) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for value in [0, 7, 10, 12_345, u64::MAX] {
            let mut text = String::new();
            push_number(&mut text, value);
            assert_eq!(text, value.to_string());
        }
    }
}
