//! The function's end of its streams: calls over a road of its own.
//!
//! What comes here is alleged: the stream is found by the replica that the road belongs to, so a replica reaches none but its
//! own; each operation is checked against what was offered and what has happened.

use std::rc::Rc;
use std::time::Duration;

use baton_abi::Flags;
use baton_abi::stream::{
    BEGIN_FIRST, BEGIN_LAST, CLOSE, NEXT, PART, PAUSE, STATUS_END, STATUS_NOT_NOW, STATUS_OVER, STATUS_PART,
    STATUS_TEXT, TEXT, UPGRADE,
};
use bytes::Buf;
use tokio::time::timeout;

use super::{Arrived, Begun, End, Part, PartKind, Stream};
use crate::app::App;
use crate::invoke::Body;
use crate::landing::Landing;
use crate::outlet::{Asked, Returned, Sent};
use crate::replica::Replica;

/// Why an operation is refused.
enum Refused {
    NotNow(&'static str),
    Over(&'static str),
    PoolFull,
}

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

const LEFT: &str = "the client has left, or the stream's time is over";

/// Answers one operation.
pub(crate) async fn ask(replica: &Rc<Replica>, app: &Rc<App>, asked: Asked) -> Returned {
    let outcome = match app.streams.find(replica.holder, asked.invocation) {
        None => Err(Refused::NotNow("this request's answer cannot be a stream")),
        Some(stream) => match asked.operation {
            NEXT => stream.next().await,
            PART => stream.send(PartKind::Binary, asked.body).await,
            TEXT => stream.send(PartKind::Text, asked.body).await,
            CLOSE => stream.send(PartKind::Close, asked.body).await,
            PAUSE => stream.pause(&asked.body).await,
            status @ (UPGRADE | BEGIN_FIRST..=BEGIN_LAST) => stream.begin(status, asked.head),
            _ => Err(Refused::NotNow("streams have no such operation")),
        },
    };
    outcome.unwrap_or_else(|refused| {
        let (status, words) = match refused {
            Refused::NotNow(words) => (STATUS_NOT_NOW, words),
            Refused::Over(words) => (STATUS_OVER, words),
            Refused::PoolFull => (503, "the app's pool has no room for the part"),
        };
        Returned::failure(app, status, Flags::MOVE, words)
    })
}

fn taken() -> Returned {
    returned(200, Sent::Nothing)
}

fn returned(status: u16, sent: Sent) -> Returned {
    Returned { status, flags: Flags::MOVE, sent }
}

impl Stream {
    fn begin(&self, status: u16, head: Vec<u8>) -> Result<Returned, Refused> {
        if self.is_over.get() {
            return Err(Refused::Over(LEFT));
        }
        if status == UPGRADE && !self.offer.socket {
            return Err(Refused::NotNow("the client asks for no WebSocket"));
        }
        if self.has_begun.replace(true) {
            return Err(Refused::NotNow("this answer has begun already"));
        }
        *self.begun.borrow_mut() = Some(Begun { status, head });
        self.move_deadline();
        self.wake_reader();
        Ok(taken())
    }

    async fn send(&self, kind: PartKind, body: Body) -> Result<Returned, Refused> {
        if !self.has_begun.get() {
            return Err(Refused::NotNow("an answer begins with its head"));
        }
        if kind != PartKind::Binary && !self.offer.socket {
            return Err(Refused::NotNow("messages and their end are those of WebSockets"));
        }
        let body = self.own(body)?;
        loop {
            // Before the look: whoever makes room in between is heard.
            let room = self.room.notified();
            if self.is_over.get() {
                return Err(Refused::Over(LEFT));
            }
            if self.has_room() {
                break;
            }
            room.await;
        }
        self.move_deadline();
        if kind == PartKind::Binary && !self.offer.socket && !body.has_remaining() {
            return Ok(taken());
        }
        self.outward.borrow_mut().push_back(Part { kind, body });
        self.wake_reader();
        Ok(taken())
    }

    async fn pause(&self, body: &Body) -> Result<Returned, Refused> {
        let millis = body.to_vec().first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        let millis = millis.ok_or(Refused::NotNow("a pause is eight bytes of milliseconds"))?;
        let room = self.ended.notified();
        if self.is_over.get() {
            return Err(Refused::Over(LEFT));
        }
        // A stream that nothing moves on is over by itself long before that.
        let time = Duration::from_millis(millis).min(PAUSE_MAX);
        match timeout(time, room).await {
            Ok(()) => Err(Refused::Over(LEFT)),
            Err(_) => Ok(taken()),
        }
    }

    /// A part waits for its client for as long as that takes: what its sender could take back or change until then is copied.
    fn own(&self, body: Body) -> Result<Body, Refused> {
        let Some((handle, view)) = body.in_pool() else { return Ok(body) };
        if self.app.pool.borrow().owns(handle) {
            return Ok(body);
        }
        let room = Landing::begin(&self.app, &crate::invoke::Head::new(), Some(view.len()));
        let mut landing = room.map_err(|_| Refused::PoolFull)?;
        landing.copy(&view).map_err(|_| Refused::PoolFull)?;
        // Looked at after the bytes: what was taken back before may be someone else's by now.
        if !self.app.pool.borrow().still_has(handle) {
            return Err(Refused::NotNow("the part was taken back"));
        }
        Ok(landing.take_body())
    }

    async fn next(&self) -> Result<Returned, Refused> {
        if self.is_asked.replace(true) {
            return Err(Refused::NotNow("the next part is asked for already"));
        }
        let _asking = Asking(self);
        loop {
            let arrived = self.arrived.notified();
            if let Some(Arrived { kind, landing }) = self.take_arrived() {
                self.move_deadline();
                let status = if kind == PartKind::Text { STATUS_TEXT } else { STATUS_PART };
                return Ok(returned(status, landing.map_or(Sent::Nothing, Sent::Landing)));
            }
            match &*self.end.borrow() {
                Some(End::Complete(close)) => return self.ended(close),
                Some(End::Broken) => {
                    return Err(Refused::Over("the client left in the middle of its request"));
                }
                None if self.is_over.get() => return Err(Refused::Over(LEFT)),
                None => {}
            }
            arrived.await;
        }
    }

    fn take_arrived(&self) -> Option<Arrived> {
        let arrived = self.inward.borrow_mut().pop_front();
        self.wake_writer();
        arrived
    }

    fn ended(&self, close: &[u8]) -> Result<Returned, Refused> {
        let sent = match close {
            [] => Sent::Nothing,
            close => Landing::of(&self.app, close).map_or(Sent::Nothing, Sent::Landing),
        };
        Ok(returned(STATUS_END, sent))
    }
}

/// One [`NEXT`] that is out.
struct Asking<'a>(&'a Stream);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.is_asked.set(false);
    }
}
