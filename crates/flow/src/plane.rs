//! The way from other threads to the data plane: closures that run there.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::{mpsc, oneshot};

use crate::Flow;

/// Requests of other threads that may wait for the data plane.
const INBOX_MAX: usize = 256;

type Errand = Box<dyn FnOnce(Flow) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The data-plane thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneGone;

impl core::fmt::Display for PlaneGone {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the node's data plane has ended")
    }
}

impl std::error::Error for PlaneGone {}

/// Runs closures on the data-plane thread, from any thread.
#[derive(Clone)]
pub struct PlaneHandle {
    errands: mpsc::Sender<Errand>,
}

/// The data-plane thread's end of the channel.
pub struct PlaneInbox {
    errands: mpsc::Receiver<Errand>,
}

/// A channel to a data-plane thread.
#[must_use]
pub fn plane_channel() -> (PlaneHandle, PlaneInbox) {
    let (sender, receiver) = mpsc::channel(INBOX_MAX);
    (PlaneHandle { errands: sender }, PlaneInbox { errands: receiver })
}

impl PlaneHandle {
    /// Runs `work` on the data-plane thread and gives what its future gives.
    ///
    /// # Errors
    /// [`PlaneGone`] when that thread has ended, or ends before the future does.
    pub async fn run<R, F>(&self, work: impl FnOnce(Flow) -> F + Send + 'static) -> Result<R, PlaneGone>
    where
        R: Send + 'static,
        F: Future<Output = R> + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let errand: Errand = Box::new(move |flow| {
            let future = work(flow);
            Box::pin(async move {
                // Whoever asked may have left.
                let _ = answer.send(future.await);
            })
        });
        self.errands.send(errand).await.map_err(|_| PlaneGone)?;
        answered.await.map_err(|_| PlaneGone)
    }
}

impl PlaneInbox {
    /// Serves errands until all handles are gone. Run it on the data-plane thread's `LocalSet`.
    pub async fn run(mut self, flow: Flow) {
        while let Some(errand) = self.errands.recv().await {
            tokio::task::spawn_local(errand(flow.clone()));
        }
    }
}

impl core::fmt::Debug for PlaneHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PlaneHandle")
    }
}

impl core::fmt::Debug for PlaneInbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PlaneInbox")
    }
}
