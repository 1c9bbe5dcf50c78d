//! Frames, as bytes. Everything here comes from a peer that may lie.
//!
//! ```text
//!  0         4      5      8            16
//!  ┌─────────┬──────┬──────┬────────────┬───────────────────────────┐
//!  │ len u32 │ kind │ 0 0 0│ id u64     │ body: `len` bytes         │   little endian
//!  └─────────┴──────┴──────┴────────────┴───────────────────────────┘
//! ```
//! A header is judged before anything is allocated for its body: each kind has a largest body, and a lane and direction in which it
//! may come. A name is its length (one byte) and UTF-8 without control characters.

use std::fmt;

use crate::limits::{CALL_FRAME_MAX, CHUNK_MAX, HELLO_MAX, NAME_MAX};

pub mod bulk;
pub mod call;
pub mod hello;

/// Bytes of a header.
pub const HEADER: usize = 16;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who speaks; the first frame each way.
    Hello = 1,
    /// No: one byte says why. The connection closes.
    Refuse = 2,
    /// A call; `id` is the caller's, rising.
    Call = 3,
    /// Its answer, exactly one.
    Reply = 4,
    /// The caller wants no answer any more, and gets a short one.
    Cancel = 5,
    /// Are you there? `id` is anything.
    Ping = 6,
    /// Yes; the same `id`.
    Pong = 7,
    /// No more calls, please.
    GoAway = 8,
    /// Calls that may be out at a time, or bytes more that may be sent of a pull: `id`, one u32 for calls, one u64 for bytes.
    Credit = 9,
    /// Bytes wanted; `id` names the pull from now on.
    Pull = 16,
    /// Bytes of pull `id`, in order.
    Piece = 17,
    /// Pull `id` ends without its bytes: one byte says why.
    End = 18,
    /// Pull `id` is not wanted any more.
    Abort = 19,
    /// A retrieval is done: `id` is its number.
    Ack = 20,
}

/// Which way a frame comes, on which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Before the lane is open.
    Greeting,
    /// To the callee.
    Calls,
    /// To the caller.
    Answers,
    /// To the holder.
    Pulls,
    /// To the receiver.
    Pieces,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// No frame, or none that may come on this road.
    Kind {
        /// What was said.
        kind: u8,
        /// Where.
        road: Road,
    },
    /// A body longer than such a frame may have.
    Length {
        /// What it is.
        kind: Kind,
        /// What was said.
        len: u32,
        /// What may be.
        max: u32,
    },
    /// Bytes that must be zero are not.
    Reserved,
    /// The body ends too early.
    Short,
    /// Bytes behind the body's end.
    Trailing,
    /// A field says what it cannot.
    Field(&'static str),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Kind { kind, road } => {
                write!(f, "a frame of kind {kind} does not belong here ({road:?})")
            }
            WireError::Length { kind, len, max } => {
                write!(f, "{kind:?} claims a body of {len} bytes, {max} is the most")
            }
            WireError::Reserved => f.write_str("reserved bytes of a header are not zero"),
            WireError::Short => f.write_str("a body ends in the middle of a field"),
            WireError::Trailing => f.write_str("a body goes on behind its last field"),
            WireError::Field(field) => write!(f, "field `{field}` has no such value"),
        }
    }
}

impl std::error::Error for WireError {}

/// A judged header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Bytes of its body, at most [`Kind::body_max`].
    pub len: u32,
    /// What it is about.
    pub id: u64,
}

impl Kind {
    fn from_wire(kind: u8) -> Option<Kind> {
        use Kind::*;
        let all =
            [Hello, Refuse, Call, Reply, Cancel, Ping, Pong, GoAway, Credit, Pull, Piece, End, Abort, Ack];
        all.into_iter().find(|each| *each as u8 == kind)
    }

    /// Bytes that its body has at most.
    #[must_use]
    pub fn body_max(self) -> u32 {
        let max = match self {
            Kind::Hello => HELLO_MAX,
            Kind::Call | Kind::Reply => CALL_FRAME_MAX,
            Kind::Cancel | Kind::Ping | Kind::Pong | Kind::GoAway | Kind::Abort => 0,
            Kind::Refuse | Kind::End => 1,
            Kind::Credit => 8,
            Kind::Pull => bulk::PULL_BYTES,
            Kind::Piece => return u32::try_from(CHUNK_MAX).unwrap_or(u32::MAX),
            Kind::Ack => bulk::ACK_BYTES,
        };
        u32::try_from(max).unwrap_or(u32::MAX)
    }

    fn may_come(self, road: Road) -> bool {
        match road {
            Road::Greeting => matches!(self, Kind::Hello | Kind::Refuse),
            Road::Calls => matches!(self, Kind::Call | Kind::Cancel | Kind::Ping),
            Road::Answers => matches!(self, Kind::Reply | Kind::Pong | Kind::GoAway | Kind::Credit),
            Road::Pulls => matches!(self, Kind::Pull | Kind::Credit | Kind::Abort | Kind::Ack),
            Road::Pieces => matches!(self, Kind::Piece | Kind::End),
        }
    }
}

impl Header {
    /// Reads a header that came on `road`.
    ///
    /// # Errors
    /// [`WireError::Kind`], [`WireError::Length`], [`WireError::Reserved`].
    pub fn parse(bytes: &[u8; HEADER], road: Road) -> Result<Header, WireError> {
        let mut reader = Reader(bytes);
        let (len, kind) = (reader.u32()?, reader.u8()?);
        let reserved = reader.take(3)?;
        let id = reader.u64()?;
        let known = Kind::from_wire(kind).filter(|kind| kind.may_come(road));
        let kind = known.ok_or(WireError::Kind { kind, road })?;
        if reserved != [0; 3] {
            return Err(WireError::Reserved);
        }
        let max = kind.body_max();
        if len > max {
            return Err(WireError::Length { kind, len, max });
        }
        Ok(Header { kind, len, id })
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER] {
        let front = u64::from(self.len) | u64::from(self.kind as u8) << u32::BITS;
        (u128::from(front) | u128::from(self.id) << u64::BITS).to_le_bytes()
    }
}

/// Appends a frame to `out`; `body` writes its body.
pub(crate) fn frame(out: &mut Vec<u8>, kind: Kind, id: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER]);
    body(out);
    // Bodies are bounded far below this where they are made.
    let len = u32::try_from(out.len() - at - HEADER).unwrap_or(u32::MAX);
    let header = Header { kind, len, id }.bytes();
    if let Some(place) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = header;
    }
}

/// Takes fields off the front of a body.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| WireError::Short)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes32(&mut self) -> Result<[u8; 32], WireError> {
        self.array()
    }

    pub(crate) fn name(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        let len = usize::from(self.u8()?);
        if len > NAME_MAX {
            return Err(WireError::Field(field));
        }
        let name = core::str::from_utf8(self.take(len)?).map_err(|_| WireError::Field(field))?;
        if name.chars().any(char::is_control) { Err(WireError::Field(field)) } else { Ok(name) }
    }

    pub(crate) fn end(&self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }
}

/// Appends a name that [`named`] has let through; a longer one is cut.
pub(crate) fn put_name(out: &mut Vec<u8>, name: &str) {
    let bytes = name.as_bytes().get(..name.len().min(NAME_MAX)).unwrap_or_default();
    out.push(u8::try_from(bytes.len()).unwrap_or(0));
    out.extend_from_slice(bytes);
}

/// Whether a name can travel: not empty, not too long, no control characters.
pub(crate) fn named(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
