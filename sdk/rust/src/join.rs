//! Waiting for several calls at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls futures that can be moved until all are done; results keep their order.
pub(crate) struct JoinAll<F: Future> {
    slots: Vec<Slot<F>>,
    left: usize,
}

enum Slot<F: Future> {
    Pending(F),
    Done(Option<F::Output>),
}

impl<F: Future + Unpin> JoinAll<F> {
    pub(crate) fn new(futures: Vec<F>) -> JoinAll<F> {
        let left = futures.len();
        JoinAll { slots: futures.into_iter().map(Slot::Pending).collect(), left }
    }
}

// Results are moved out, never pinned.
impl<F: Future + Unpin> Unpin for JoinAll<F> {}

impl<F: Future + Unpin> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        for slot in &mut this.slots {
            if let Slot::Pending(future) = slot
                && let Poll::Ready(output) = Pin::new(future).poll(context)
            {
                *slot = Slot::Done(Some(output));
                this.left -= 1;
            }
        }
        if this.left > 0 {
            return Poll::Pending;
        }
        let take = |slot: &mut Slot<F>| match slot {
            Slot::Done(output) => output.take(),
            Slot::Pending(_) => None,
        };
        Poll::Ready(this.slots.iter_mut().filter_map(take).collect())
    }
}
