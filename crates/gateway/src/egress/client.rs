//! The pooled client, and the thread that its connections are on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_service::Service;

use super::body::OutBody;

/// The thread's name.
const THREAD: &str = "baton-network";
/// Look-ups at a time: the system's resolver blocks a thread for each.
const LOOK_UPS_MAX: usize = 16;
/// Time for a connection; the invocation's own time is mostly shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections that an app keeps to one host, and for how long.
const IDLE_PER_HOST_MAX: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most headers of an answer, and longest head of one.
const HEADERS_MAX: usize = 100;
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The client of one app.
pub(super) type Client = legacy::Client<HttpsConnector<Counting>, OutBody>;

/// A client that shares no connection with another.
pub(super) fn client(tls: &rustls::ClientConfig, opened: &Arc<AtomicU64>) -> Client {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let counting = Counting { http, opened: Arc::clone(opened) };
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(counting);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http1_max_headers(HEADERS_MAX)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .http2_max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .build(connector)
}

/// Counts connections.
#[derive(Clone)]
pub(super) struct Counting {
    http: HttpConnector,
    opened: Arc<AtomicU64>,
}

impl Service<Uri> for Counting {
    type Response = TokioIo<TcpStream>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, opened) = (self.http.call(to), Arc::clone(&self.opened));
        Box::pin(async move {
            let connected = connecting.await?;
            opened.fetch_add(1, Ordering::Relaxed);
            Ok(connected)
        })
    }
}

/// The thread of outgoing connections. It ends when this is dropped.
pub(super) struct Network {
    runtime: Handle,
    _alive: oneshot::Sender<()>,
}

impl Network {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Network> {
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(LOOK_UPS_MAX).build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
            // A look-up that hangs is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Network { runtime: handle, _alive: alive })
    }

    /// Runs a future there.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// Runs what blocks beside it; `None` if the thread is gone.
    pub(super) async fn spawn_blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.runtime.spawn_blocking(run).await.ok()
    }
}
