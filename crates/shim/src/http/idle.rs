//! Connections that wait for their next request.

use std::cell::RefCell;

use super::connection::Connection;

/// Most that are kept. There are never more than requests were under way at once.
const IDLE_MAX: usize = 256;
/// A program may close an idle connection at any time, and a request that meets that may be lost. One that cannot be sent twice goes
/// only over a connection that was in use this long ago, nanoseconds.
const FRESH_NS: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(crate) struct Idle(RefCell<Vec<(Connection, u64)>>);

impl Idle {
    /// The one that was used last, if it is good still.
    pub(crate) fn take(&self, may_be_lost: bool) -> Option<Connection> {
        loop {
            let (connection, since_ns) = self.0.borrow_mut().pop()?;
            let is_fresh = may_be_lost || baton::monotonic_ns().saturating_sub(since_ns) < FRESH_NS;
            if is_fresh && connection.is_at_rest() {
                return Some(connection);
            }
            // Those behind it have waited longer.
        }
    }

    pub(crate) fn put(&self, connection: Connection) {
        let mut all = self.0.borrow_mut();
        if all.len() < IDLE_MAX {
            all.push((connection, baton::monotonic_ns()));
        }
    }
}
