//! What a function asks of the network, as whoever sends it out for it gets it, and what that comes to.
//!
//! | the function's payload | how its bytes get to the socket |
//! |---|---|
//! | moved | from where they lie: the node owns the buffer until the last of them is written |
//! | lent or shared | piece by piece through private copies: their owner can take them back at any time, and use the buffer again |
//! | up to eight bytes in the descriptor | a copy |

use core::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use baton_abi::head::{Field, records};
use baton_pool::capability::Handle;
use baton_pool::region::View;
use bytes::{Buf, Bytes};
use tokio::sync::{mpsc, oneshot};

use crate::app::App;
use crate::error::InvokeError;
use crate::invoke::{Body, Head};
use crate::landing::Landing;

/// Bytes of one piece of a lent payload.
const PIECE_BYTES: u64 = 64 * 1024;
/// Pieces that are ahead of the socket.
const PIECES_AHEAD: usize = 2;
/// What is shown of a URL that names no host.
const ORIGIN_CHARS_MAX: usize = 256;

/// Sends requests of functions out: the node's HTTP client.
pub type Fetch = Rc<dyn Fn(Outgoing) -> Pin<Box<dyn Future<Output = Result<Answered, FetchError>>>>>;

/// A request that a function wants to be sent out. Dropping it gives back what it holds.
pub struct Outgoing {
    app: Rc<App>,
    function: usize,
    /// Private: what is decided by must not change any more.
    head: Vec<u8>,
    body: Option<Body>,
}

/// The bytes of a request on their way out. They may be sent from any thread.
pub enum OutgoingBody {
    /// None.
    Empty,
    /// A few.
    Copied(Bytes),
    /// From where they lie.
    Moved(Moved),
    /// One after the other.
    Pieces(Pieces),
}

/// A moved payload. Its buffer goes back once this is dropped, wherever that is.
pub struct Moved {
    view: View,
    _gone: oneshot::Sender<()>,
}

/// A lent payload, in copies.
pub struct Pieces {
    /// Bytes altogether.
    pub len: u64,
    /// The pieces; an error if the payload was taken back on the way.
    pub pieces: mpsc::Receiver<Result<Bytes, Revoked>>,
}

/// A payload was taken back by its owner while it was being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked;

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the function took its payload back")
    }
}

impl std::error::Error for Revoked {}

/// What came back.
pub struct Answered {
    /// The status, 200 to 599.
    pub status: u16,
    /// Headers and body.
    pub landing: Landing,
}

/// Why a function gets no answer from the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The request is none that can be sent.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The manifest does not name the host.
    Denied {
        /// The function.
        function: String,
        /// Host and port, as the manifest would name them.
        host: String,
    },
    /// The function has as many requests out as it may.
    Crowded,
    /// The function sent a payload that it does not hold.
    NotHeld,
    /// No connection to the host.
    Unreachable {
        /// The origin.
        host: String,
        /// Why.
        why: String,
    },
    /// The connection broke, or what came over it is no answer.
    Broken {
        /// The origin.
        host: String,
        /// How.
        why: String,
    },
    /// The answer was not complete in time.
    Late {
        /// The origin.
        host: String,
    },
    /// The answer is larger than the app's pool can ever hold.
    TooLarge {
        /// The origin.
        host: String,
        /// Bytes that it holds at most.
        limit: u64,
    },
    /// The pool has no room for the answer now.
    PoolFull,
    /// The node sends nothing out.
    Off,
}

impl FetchError {
    /// The status that the function sees.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            FetchError::Malformed { .. } => 400,
            FetchError::Denied { .. } => 403,
            FetchError::Crowded => 429,
            FetchError::NotHeld | FetchError::Unreachable { .. } | FetchError::Broken { .. } => 502,
            FetchError::PoolFull | FetchError::Off => 503,
            FetchError::Late { .. } => 504,
            FetchError::TooLarge { .. } => 507,
        }
    }

    /// What landing an answer of `host` came to.
    #[must_use]
    pub fn landing(error: &InvokeError, host: &str) -> FetchError {
        match error {
            InvokeError::TooLarge { limit } => FetchError::TooLarge { host: host.to_owned(), limit: *limit },
            InvokeError::HeadTooLarge => {
                FetchError::Broken { host: host.to_owned(), why: "its headers are too long".to_owned() }
            }
            _ => FetchError::PoolFull,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Malformed { what } => write!(f, "the request cannot be sent: {what}"),
            FetchError::Denied { function, host } => {
                write!(
                    f,
                    "{host} is not in `network` of function `{function}`; add \"{host}\" there in baton.toml"
                )
            }
            FetchError::Crowded => f.write_str("the function has too many requests out; retry later"),
            FetchError::NotHeld => f.write_str("the function sent a payload that it does not hold"),
            FetchError::Unreachable { host, why } => write!(f, "{host} cannot be reached: {why}"),
            FetchError::Broken { host, why } => write!(f, "{host} gave no answer: {why}"),
            FetchError::Late { host } => write!(f, "{host} did not answer in time"),
            FetchError::TooLarge { host, limit } => write!(
                f,
                "the answer of {host} is larger than the app's pool ({limit} bytes); raise `pool.size`"
            ),
            FetchError::PoolFull => {
                f.write_str("the app's pool has no room for the answer; retry, or raise `pool.size`")
            }
            FetchError::Off => f.write_str("the node sends nothing out now"),
        }
    }
}

impl std::error::Error for FetchError {}

impl Outgoing {
    pub(crate) fn new(app: Rc<App>, function: usize, head: Vec<u8>, body: Body) -> Outgoing {
        Outgoing { app, function, head, body: Some(body) }
    }

    fn find(&self, field: Field) -> Option<&[u8]> {
        let mut all = records(&self.head).map_while(Result::ok);
        all.find(|record| record.field == field).map(|record| record.value)
    }

    /// The method, if the function named one.
    #[must_use]
    pub fn method(&self) -> Option<&[u8]> {
        self.find(Field::Method)
    }

    /// The URL as the function wrote it; empty if it did not.
    #[must_use]
    pub fn url(&self) -> &[u8] {
        self.find(Field::Path).unwrap_or_default()
    }

    /// A query beside the URL.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        self.find(Field::Query)
    }

    /// The headers as the function wrote them.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        let all = records(&self.head).map_while(Result::ok);
        all.filter(|record| record.field == Field::Header).map(|record| (record.name, record.value))
    }

    /// Scheme and host of the URL, for people.
    pub(crate) fn origin(&self) -> String {
        let url = String::from_utf8_lossy(self.url());
        let (scheme, rest) = url.split_once("://").unwrap_or(("", &url));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let origin = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
        origin.chars().take(ORIGIN_CHARS_MAX).filter(|c| !c.is_control()).collect()
    }

    /// The app that asks.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app.name
    }

    /// The function that asks.
    #[must_use]
    pub fn function(&self) -> &str {
        self.app.function_name(self.function)
    }

    /// The hosts that it may ask, as the manifest names them.
    #[must_use]
    pub fn network(&self) -> &[String] {
        self.app.functions.get(self.function).map_or(&[], |state| &state.spec.network)
    }

    /// The body. Once: afterwards there is none.
    #[must_use]
    pub fn take_body(&mut self) -> OutgoingBody {
        let Some(body) = self.body.take().filter(Buf::has_remaining) else { return OutgoingBody::Empty };
        let Some((handle, view)) = body.in_pool() else {
            return OutgoingBody::Copied(Bytes::copy_from_slice(body.chunk()));
        };
        if self.app.pool.borrow().owns(handle) {
            let (gone, dropped) = oneshot::channel::<()>();
            tokio::task::spawn_local(async move {
                let _ = dropped.await;
                drop(body);
            });
            return OutgoingBody::Moved(Moved { view, _gone: gone });
        }
        let (len, (sender, pieces)) = (view.len(), mpsc::channel(PIECES_AHEAD));
        tokio::task::spawn_local(feed(Rc::clone(&self.app), body, (handle, view), sender));
        OutgoingBody::Pieces(Pieces { len, pieces })
    }

    /// Begins the answer: its headers are in the pool, its body can be written.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`], [`InvokeError::TooLarge`].
    pub fn answer(&self, head: &Head, body_len: Option<u64>) -> Result<Landing, InvokeError> {
        Landing::begin(&self.app, head, body_len)
    }
}

/// Copies what was lent, for as long as it is.
async fn feed(
    app: Rc<App>,
    _held: Body,
    (handle, mut view): (Handle, View),
    sender: mpsc::Sender<Result<Bytes, Revoked>>,
) {
    while !view.is_empty() {
        let Ok(place) = sender.reserve().await else { return };
        let piece = view.first(PIECE_BYTES);
        let copy = piece.to_vec();
        // Looked at after the bytes: what was taken back before may be someone else's by now.
        if !app.pool.borrow().still_has(handle) {
            place.send(Err(Revoked));
            return;
        }
        view.advance(piece.len());
        place.send(Ok(Bytes::from(copy)));
    }
}

impl Buf for Moved {
    fn remaining(&self) -> usize {
        usize::try_from(self.view.len()).unwrap_or(usize::MAX)
    }

    fn chunk(&self) -> &[u8] {
        self.view.pass_on()
    }

    fn advance(&mut self, count: usize) {
        self.view.advance(count as u64);
    }
}
