//! Tells a task of the same thread that there is something to do.
//!
//! As `tokio::sync::Notify` for one waiter, without what that needs for other threads and for more waiters: it is on the way of every call.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// A nudge that was given before anybody waited counts; several count once.
#[derive(Debug, Default)]
pub struct Nudge {
    given: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Nudge {
    /// Wakes who waits, or is about to.
    pub fn give(&self) {
        if !self.given.replace(true)
            && let Some(waiter) = self.waiter.take()
        {
            waiter.wake();
        }
    }

    /// Whether one was given since this last said so. Who is told `Pending` is woken; of several tasks the last one.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.given.replace(false) {
            return Poll::Ready(());
        }
        let mut waiter = self.waiter.borrow_mut();
        if !waiter.as_ref().is_some_and(|waiter| waiter.will_wake(cx.waker())) {
            *waiter = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for the next one.
    pub async fn given(&self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_nudge_before_anybody_waits_counts_once() {
        let nudge = Nudge::default();
        let mut cx = Context::from_waker(Waker::noop());
        nudge.give();
        nudge.give();
        assert_eq!(nudge.poll(&mut cx), Poll::Ready(()));
        assert_eq!(nudge.poll(&mut cx), Poll::Pending);
    }

    #[test]
    fn who_waits_is_woken_once_for_each_time_that_it_looks() {
        let (nudge, count) = (Nudge::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        for round in 1..=2 {
            assert_eq!(nudge.poll(&mut cx), Poll::Pending);
            nudge.give();
            nudge.give();
            assert_eq!(count.0.load(Ordering::Relaxed), round);
            assert_eq!(nudge.poll(&mut cx), Poll::Ready(()));
        }
    }

    #[test]
    fn the_last_task_that_waits_is_woken() {
        let nudge = Nudge::default();
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        for count in [&first, &second] {
            let waker = Waker::from(Arc::clone(count));
            assert_eq!(nudge.poll(&mut Context::from_waker(&waker)), Poll::Pending);
        }
        nudge.give();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (0, 1));
    }
}
