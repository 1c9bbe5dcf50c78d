//! HTTP out: requests that functions ask the node to send.
//!
//! ```text
//!  data plane                                       thread `baton-network`
//!    Outgoing ─▶ request: policy, vetting ─spawn─▶  pooled client: look-up, connect, TLS, HTTP/1.1 or 2
//!    Landing ◀─ pieces of the answer's body ◀────   connection
//! ```
//! Handshakes, encryption and look-ups would hold up every other request of the node if they were on the data plane's thread.
//! Each app has connections of its own: nothing that one sends can meet what another one reads.
//!
//! What is not done: redirects, retries of what was sent, cookies, compression, proxies.

mod body;
mod client;
mod request;
mod roots;
mod tunnel;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_flow::{Answered, Fetch, FetchError, Field, Head, InvokeError, Outgoing};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use crate::headers::of_answer;
use body::OutBody;
use client::{Client, HEAD_BYTES_MAX, Network};
use request::Asked;

pub use roots::{Authorities, AuthorityError};

/// Longest reason of a failure, in characters.
const WHY_CHARS_MAX: usize = 512;

/// The node's HTTP client. Lives on the data plane's thread; its connections do not.
pub struct Egress {
    authorities: Authorities,
    /// There from the first request on.
    network: OnceCell<Network>,
    tls: tokio::sync::OnceCell<Arc<rustls::ClientConfig>>,
    clients: RefCell<BTreeMap<String, Client>>,
    opened: Arc<AtomicU64>,
}

/// A task of the other thread, which ends with whoever waits for it.
struct Ours<T>(JoinHandle<T>);

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Egress {
    /// A client that trusts the certificate authorities of the machine, and `authorities`.
    #[must_use]
    pub fn new(authorities: Authorities) -> Rc<Egress> {
        Rc::new(Egress {
            authorities,
            network: OnceCell::new(),
            tls: tokio::sync::OnceCell::new(),
            clients: RefCell::default(),
            opened: Arc::default(),
        })
    }

    /// What the flow is to be given.
    #[must_use]
    pub fn fetch(self: &Rc<Self>) -> Fetch {
        let egress = Rc::clone(self);
        Rc::new(move |outgoing| {
            let egress = Rc::clone(&egress);
            Box::pin(async move { egress.send(outgoing).await })
        })
    }

    /// Connections opened since the start.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    async fn send(&self, mut outgoing: Outgoing) -> Result<Answered, FetchError> {
        let Asked { method, target, headers } = Asked::of(&outgoing)?;
        let host = target.origin;
        let mut request = Request::new(OutBody::from(outgoing.take_body()));
        *request.method_mut() = method;
        *request.uri_mut() = target.uri;
        *request.headers_mut() = headers;
        let network = self.network()?;
        let client = self.client(network, outgoing.app()).await?;
        let task = network.spawn(async move { client.request(request).await });
        let response = match (&mut Ours(task)).await {
            Some(Ok(response)) => response,
            Some(Err(error)) if error.is_connect() => {
                return Err(FetchError::Unreachable { host, why: why(&error) });
            }
            Some(Err(error)) => return Err(FetchError::Broken { host, why: why(&error) }),
            // The thread is gone: so is the node.
            None => return Err(FetchError::Off),
        };
        land(&outgoing, response, &host).await
    }

    pub(in crate::egress) fn network(&self) -> Result<&Network, FetchError> {
        if self.network.get().is_none() {
            let started = Network::start().map_err(|error| {
                tracing::error!(%error, "the thread of outgoing connections does not start");
                FetchError::Off
            })?;
            let _ = self.network.set(started);
        }
        self.network.get().ok_or(FetchError::Off)
    }

    /// The client of an app, with connections of its own.
    async fn client(&self, network: &Network, app: &str) -> Result<Client, FetchError> {
        if let Some(client) = self.clients.borrow().get(app) {
            return Ok(client.clone());
        }
        let load = || async {
            let authorities = self.authorities.clone();
            let loaded = network.spawn_blocking(move || authorities.config()).await;
            loaded.ok_or(FetchError::Off)?.map(Arc::new).map_err(|error| {
                tracing::error!(%error, "TLS cannot be set up");
                FetchError::Off
            })
        };
        let tls = self.tls.get_or_try_init(load).await?;
        let client = client::client(tls, &self.opened);
        Ok(self.clients.borrow_mut().entry(app.to_owned()).or_insert(client).clone())
    }
}

impl<T> Future for &mut Ours<T> {
    type Output = Option<T>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        std::pin::Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

/// Headers and body of an answer, into the app's pool.
async fn land(outgoing: &Outgoing, response: Response<Incoming>, host: &str) -> Result<Answered, FetchError> {
    let (parts, mut body) = response.into_parts();
    let status = parts.status.as_u16();
    if status < 200 {
        let why = format!("it answered with status {status}, which nothing asked for");
        return Err(FetchError::Broken { host: host.to_owned(), why });
    }
    let failed = |error: InvokeError| FetchError::landing(&error, host);
    let mut head = Head::new();
    let mut head_bytes = 0;
    for (name, value) in of_answer(&parts.headers) {
        // The client bounds only what it reads at once.
        head_bytes += name.len() + value.len();
        if head_bytes > HEAD_BYTES_MAX {
            return Err(failed(InvokeError::HeadTooLarge));
        }
        head.add(Field::Header, name, value).map_err(failed)?;
    }
    let mut landing = outgoing.answer(&head, body.size_hint().exact()).map_err(failed)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| FetchError::Broken { host: host.to_owned(), why: why(&error) })?;
        // Trailers are left out.
        if let Some(bytes) = frame.data_ref() {
            landing.write(bytes).map_err(failed)?;
        }
    }
    Ok(Answered { status, landing })
}

/// What an error says, and everything below it.
fn why(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text.chars().take(WHY_CHARS_MAX).collect()
}
