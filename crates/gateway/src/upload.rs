//! A request's body on its way into the backend.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::limits::Limits;
use crate::refusal::Refusal;

/// Reads the body to its end; each piece goes to `take` as it comes.
pub(crate) async fn receive(
    mut body: Incoming,
    limit: u64,
    patience: Duration,
    mut take: impl FnMut(&[u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut received = 0u64;
    let mut pace = None;
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => {
                let pace = pace.get_or_insert_with(|| Pace::new(patience, received));
                pace.poll(cx, received).map(|()| Err(Refusal::slow_body()))
            }
        });
        let Some(frame) = frame.await? else { return Ok(()) };
        let frame = frame.map_err(|_| {
            Refusal::malformed("the body ended early or is wrongly framed; send the request again")
        })?;
        // Trailers are read and left out: no function asked for them.
        let Some(bytes) = frame.data_ref() else { continue };
        received = received.saturating_add(bytes.len() as u64);
        if received > limit {
            return Err(Refusal::too_large(limit));
        }
        take(bytes)?;
    }
}

/// Watches that a body gets on. It is there only once the client keeps the gateway waiting, and its timer is set
/// anew only when it fires.
struct Pace {
    patience: Duration,
    /// When the body last had got on by a pace.
    since: Instant,
    mark: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Pace {
    fn new(patience: Duration, received: u64) -> Self {
        let since = Instant::now();
        Self { patience, since, mark: received, sleep: Box::pin(tokio::time::sleep_until(since + patience)) }
    }

    /// Ready when the body is too slow.
    fn poll(&mut self, cx: &mut Context<'_>, received: u64) -> Poll<()> {
        if received - self.mark >= Limits::BODY_PACE_BYTES {
            self.mark = received;
            self.since = Instant::now();
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let due = self.since + self.patience;
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due);
        }
    }
}
