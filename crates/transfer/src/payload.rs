//! What calls and pulls carry: payloads that are held, rooms that are filled, calls and answers.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use baton_pool::region::{self, View};
use bytes::Bytes;

use crate::reference::Reference;

/// Tells an owner, by being dropped, that nobody uses its memory any more. On any thread.
type Keep = Mutex<Box<dyn Send>>;

struct Memory {
    view: View,
    pool: Arc<OwnedFd>,
    at: u64,
    app: String,
    buffer: u32,
    generation: u32,
    _keep: Keep,
}

/// Bytes of a pool that a peer may pull. Clones share them; the last one to be dropped tells the owner.
#[derive(Clone)]
pub struct Held(Arc<Memory>);

/// Where bytes to be held lie.
pub struct Place {
    /// The bytes in this process's mapping.
    pub view: View,
    /// The memory file that they lie in.
    pub pool: Arc<OwnedFd>,
    /// Where they begin in that file.
    pub at: u64,
}

/// Whose bytes they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The app: the security domain that its quota goes by.
    pub app: String,
    /// Index of the buffer.
    pub buffer: u32,
    /// Its generation.
    pub generation: u32,
}

impl Held {
    /// Bytes at `place` that belong to `owner`; `keep` is dropped when no clone is left.
    #[must_use]
    pub fn new(place: Place, owner: Owner, keep: Box<dyn Send>) -> Held {
        let (Place { view, pool, at }, Owner { app, buffer, generation }) = (place, owner);
        Held(Arc::new(Memory { view, pool, at, app, buffer, generation, _keep: Mutex::new(keep) }))
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.view.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.view.is_empty()
    }

    /// The app that they belong to.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.0.app
    }

    /// Index and generation of the buffer.
    #[must_use]
    pub fn buffer(&self) -> (u32, u32) {
        (self.0.buffer, self.0.generation)
    }

    /// The memory file, and where `offset` of these bytes lies in it.
    pub(crate) fn file(&self, offset: u64) -> (&OwnedFd, u64) {
        (&self.0.pool, self.0.at + offset)
    }

    /// The bytes `offset..offset + len`, to be passed on and nothing else; fewer if there are not so many.
    pub(crate) fn part(&self, offset: u64, len: u64) -> View {
        let mut view = self.0.view.clone();
        view.advance(offset);
        view.first(len)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} bytes of {}, buffer {})", self.len(), self.0.app, self.0.buffer)
    }
}

/// A writable range of a pool for a pull. Dropping it tells the owner.
pub struct Room {
    pub(crate) room: region::Room,
    _keep: Keep,
}

impl Room {
    /// `room`, with what is dropped beside it.
    #[must_use]
    pub fn new(room: region::Room, keep: Box<dyn Send>) -> Room {
        Room { room, _keep: Mutex::new(keep) }
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.room.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.room.is_empty()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({} bytes)", self.len())
    }
}

/// A body to be sent.
#[derive(Clone, Debug, Default)]
pub enum Payload {
    /// None.
    #[default]
    Empty,
    /// Travels with the head; at most [`INLINE_MAX`](crate::limits::INLINE_MAX) bytes.
    Inline(Bytes),
    /// Stays where it is until the peer pulls it.
    Held(Held),
}

/// A body that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arrived {
    /// None.
    #[default]
    Empty,
    /// All of it.
    Inline(Bytes),
    /// To be pulled from whoever sent the frame.
    Referenced(Reference),
}

/// A call to a function of another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call<B = Payload> {
    /// The app.
    pub app: String,
    /// The function.
    pub function: String,
    /// The deployment that the caller means.
    pub version: u64,
    /// The invocation that it is a part of.
    pub invocation: u64,
    /// What is asked of the function, for its SDK to know.
    pub operation: u16,
    /// Whether a receipt is kept.
    pub record: bool,
    /// What is left of its time.
    pub timeout: Duration,
    /// At most [`HEAD_MAX`](crate::limits::HEAD_MAX) bytes.
    pub head: Vec<u8>,
    /// The body.
    pub body: B,
}

/// A call that came from another node.
pub type Incoming = Call<Arrived>;

/// How a call ended at its callee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerKind {
    /// The function answered.
    #[default]
    Reply,
    /// The function failed; head and body say how.
    FunctionError,
    /// The node did not begin the call: it may be sent elsewhere.
    Refused,
    /// The function died with it: it had begun.
    Died,
    /// It ended because its caller asked for that.
    Cancelled,
}

impl AnswerKind {
    /// Whether the function has surely not begun.
    #[must_use]
    pub fn retryable(self) -> bool {
        self == AnswerKind::Refused
    }
}

/// What a service makes of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome<B = Payload> {
    /// The status.
    pub status: u16,
    /// How it ended.
    pub kind: AnswerKind,
    /// How loaded the callee's node is, in its own measure.
    pub load: u32,
    /// At most [`HEAD_MAX`](crate::limits::HEAD_MAX) bytes.
    pub head: Vec<u8>,
    /// The body.
    pub body: B,
}

/// What came back for a call.
pub type Answer = Outcome<Arrived>;
