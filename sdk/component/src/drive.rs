//! Two loops on one thread: that of the SDK, which waits for events of the cell, and tokio's, which has the timers and tasks of
//! WASI.
//!
//! ```text
//!  SDK polls the handler ──▶ tokio runs until the work is done, or waits for an answer of another function
//!       ▲                                                               │
//!       └────────────────── an event of the cell ◀──────────────────────┘
//! ```
//! While no call is out, nothing but time can wake the work: then tokio waits for its timers, and the thread sleeps. While one is
//! out, the SDK waits for its answer; timers that end meanwhile are seen then.

use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

use tokio::runtime::Runtime;

/// How often tasks of tokio's may go on before the SDK's loop has its turn.
const ROUNDS: usize = 4;

thread_local! {
    /// How many calls are out.
    static OUT: Cell<usize> = const { Cell::new(0) };
    /// Wakes the handler in the SDK's loop.
    static HANDLER: RefCell<Option<Waker>> = const { RefCell::new(None) };
    /// Wakes the work in tokio's.
    static WORK: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Runs `work` to its end, in turns with the SDK's loop.
pub(crate) async fn drive<W: Future>(runtime: &Runtime, work: W) -> W::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        HANDLER.set(Some(context.waker().clone()));
        let turned = runtime.block_on(turn(work.as_mut()));
        WORK.set(None);
        turned
    })
    .await
}

/// Goes on until the work is done, or has to wait for an event of the cell.
async fn turn<W: Future>(mut work: Pin<&mut W>) -> Poll<W::Output> {
    let mut rounds = 0;
    poll_fn(|context| {
        WORK.set(Some(context.waker().clone()));
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Poll::Ready(done));
        }
        if OUT.get() == 0 {
            return Poll::Pending;
        }
        // Tasks that can go on come first.
        rounds += 1;
        if rounds > ROUNDS {
            return Poll::Ready(Poll::Pending);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// A call to another function, to be awaited by the work: its answer wakes both loops.
pub(crate) async fn called<C: Future>(call: C) -> C::Output {
    let mut call = pin!(call);
    let mut out = None;
    poll_fn(|context| {
        let handler = HANDLER.with_borrow(Clone::clone);
        let both = Waker::from(Arc::new(Both { task: context.waker().clone(), handler }));
        let polled = call.as_mut().poll(&mut Context::from_waker(&both));
        if polled.is_pending() && out.is_none() {
            out = Some(Out::count());
            if let Some(work) = WORK.with_borrow(Clone::clone) {
                work.wake();
            }
        }
        polled
    })
    .await
}

/// A call that is out.
struct Out;

impl Out {
    fn count() -> Out {
        OUT.set(OUT.get() + 1);
        Out
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        OUT.set(OUT.get().saturating_sub(1));
    }
}

struct Both {
    task: Waker,
    handler: Option<Waker>,
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.task.wake_by_ref();
        if let Some(handler) = &self.handler {
            handler.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    /// Polls until it is done, as the SDK's loop does; how often.
    fn run<F: Future>(future: F) -> (F::Output, usize) {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for polls in 1..100 {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return (done, polls);
            }
        }
        panic!("never done");
    }

    #[test]
    fn timers_and_tasks_go_on_without_the_sdk() {
        let runtime = runtime();
        let work = async {
            let task = tokio::spawn(async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                7
            });
            task.await.unwrap() + 1
        };
        assert_eq!(run(drive(&runtime, work)), (8, 1));
    }

    #[test]
    fn a_call_that_is_out_gives_the_sdk_its_turn() {
        let runtime = runtime();
        let answers = Cell::new(0);
        let call = poll_fn(|_| {
            answers.set(answers.get() + 1);
            if answers.get() > 10 { Poll::Ready("answered") } else { Poll::Pending }
        });
        let (answer, polls) = run(drive(&runtime, called(call)));
        assert_eq!(answer, "answered");
        assert!(polls > 1, "{polls}");
        assert_eq!(OUT.get(), 0);
    }

    #[test]
    fn a_call_that_is_dropped_is_out_no_more() {
        let runtime = runtime();
        let call = called(poll_fn(|_| Poll::<()>::Pending));
        let work = async {
            let mut call = Box::pin(call);
            let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await;
            let while_out = OUT.get();
            drop(call);
            tokio::time::sleep(Duration::from_millis(1)).await;
            (first, while_out, OUT.get())
        };
        assert_eq!(run(drive(&runtime, work)).0, (true, 1, 0));
    }
}
