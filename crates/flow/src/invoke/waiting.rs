//! A call between its descriptor and its answer.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::app::App;
use crate::error::InvokeError;
use crate::replica::Replica;
use crate::slots::RawReply;

/// Waits for the answer to one call. Dropping it tells the replica that nobody waits.
pub(crate) struct Waiting {
    pub(super) app: Rc<App>,
    pub(super) replica: Rc<Replica>,
    pub(super) tag: u32,
    pub(super) done: bool,
    /// When it was given to the replica, if it had waited for one to come up.
    pub(super) cold: Option<Instant>,
}

impl Future for Waiting {
    type Output = Result<RawReply, InvokeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.replica.slots.borrow_mut().poll(self.tag, context.waker());
        self.done = polled.is_ready();
        if self.done
            && let Some(given) = self.cold.take()
            && let Some(state) = self.app.functions.get(self.replica.function)
        {
            state.cold_starts.borrow_mut().get_or_insert_default().handler.add(given.elapsed());
        }
        polled
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let left = self.replica.slots.borrow_mut().abandon(self.tag);
        match left {
            Ok(Some(raw)) => self.app.give_up(&raw),
            Ok(None) | Err(false) => {}
            Err(true) => self.replica.cancel(self.tag),
        }
    }
}
