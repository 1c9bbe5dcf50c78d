//! Connections of the control plane's APIs: bounded in number, and in what a client may keep open without a word.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::limits;

/// Answers requests on the connections that `accept` gives, at most `most` at once, until the future is dropped. `api` is what logs call
/// it.
pub(crate) async fn serve<S, F>(api: &'static str, most: usize, mut accept: impl FnMut() -> F, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = io::Result<S>>,
{
    let slots = Arc::new(Semaphore::new(most));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let stream = match accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: some come back as connections end.
                tracing::warn!(%error, "the {api} cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::HEAD_TIME_MAX)
                .max_buf_size(limits::HEAD_BYTES_MAX)
                .max_headers(limits::HEADERS_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is no news.
            let _ = connection.await;
            drop(slot);
        });
    }
}
