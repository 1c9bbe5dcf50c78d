//! A request's body on its way to a function that takes it in parts, beside the answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use http_body::Body;
use hyper::body::Incoming;

use crate::conn::Reading;
use crate::seam::{Feed, PartKind};

/// Reads the body as fast as the function takes it, to its end or the function's. What goes wrong, the function hears of.
pub(crate) async fn feed<F: Feed>(mut body: Incoming, mut feed: F, limit: u64, reading: Reading) {
    let mut received = 0u64;
    loop {
        let frame = poll_fn(|cx| match ready!(feed.poll_room(cx)) {
            Err(over) => Poll::Ready(Err(over)),
            Ok(()) => Pin::new(&mut body).poll_frame(cx).map(Ok),
        });
        match frame.await {
            Ok(Some(Ok(frame))) => {
                // Trailers are read and left out: no function asked for them.
                let Some(bytes) = frame.data_ref() else { continue };
                received = received.saturating_add(bytes.len() as u64);
                if received > limit || (!bytes.is_empty() && feed.put(PartKind::Binary, bytes).is_err()) {
                    return reading.leave();
                }
            }
            Ok(None) => {
                feed.end(&[]);
                return reading.complete();
            }
            // The client left, or framed its body wrongly: the connection's own end.
            Ok(Some(Err(_))) => return,
            Err(_) => return reading.leave(),
        }
    }
}
