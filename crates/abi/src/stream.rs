//! Streams: an answer, or the body of a request, in parts; and what goes over a WebSocket.
//!
//! A function calls [`STREAMS`] as it calls any other; the node is at the other end. The call belongs to the request whose
//! invocation its descriptor names, at the replica that makes it, and means nothing for any other.
//!
//! ```text
//!  function                                       node
//!     ── begin (operation: the status; head) ──▶    the answer's head goes to the client
//!     ── PART (payload) ──▶                         queued; answered once another part may come
//!     ── NEXT ──▶                                   answered with the next part of the request, or with its end
//!     ── the answer of the request itself ──▶       the end: a failure breaks the stream off
//! ```
//!
//! Back-pressure is the answer that has not come yet: nobody polls, and each direction has at most [`PARTS_AHEAD`] parts that
//! nobody has taken.

/// The callee of all of this: the node. No function can have this name.
pub const STREAMS: &str = "@streams";

/// The payload of the call is the next part of the answer; on a WebSocket a binary message.
pub const PART: u16 = 1;
/// The payload of the call is a text message, in UTF-8.
pub const TEXT: u16 = 2;
/// Asks for the next part of the request, or the next message.
pub const NEXT: u16 = 3;
/// Ends a WebSocket: the payload is a close code, big end first, and a reason in UTF-8; or empty.
pub const CLOSE: u16 = 4;
/// Is answered after as many milliseconds as the payload says, eight bytes, little end first; or when the stream is over.
pub const PAUSE: u16 = 5;
/// Begins the answer as a WebSocket.
pub const UPGRADE: u16 = 101;
/// From here to [`BEGIN_LAST`], an operation begins the answer with that status.
pub const BEGIN_FIRST: u16 = 200;
/// See [`BEGIN_FIRST`].
pub const BEGIN_LAST: u16 = 599;

/// The answer to [`NEXT`] is a part, or a binary message.
pub const STATUS_PART: u16 = 200;
/// The answer to [`NEXT`] is a text message.
pub const STATUS_TEXT: u16 = 201;
/// The answer to [`NEXT`]: there is no more. On a WebSocket the payload is as that of [`CLOSE`].
pub const STATUS_END: u16 = 204;
/// A failure: the stream is over, most likely since the client has left.
pub const STATUS_OVER: u16 = 410;
/// A failure: the request offers no such thing, or it is not the time for it.
pub const STATUS_NOT_NOW: u16 = 409;

/// A bit of the record [`crate::head::Field::Stream`]: the answer may be a stream.
pub const OFFER_ANSWER: u8 = 1;
/// The body of the request comes by [`NEXT`].
pub const OFFER_BODY: u8 = 2;
/// The client asks for a WebSocket.
pub const OFFER_SOCKET: u8 = 4;

/// Parts of one direction that nobody has taken.
pub const PARTS_AHEAD: usize = 8;

const _: () = {
    assert!(PART < UPGRADE && PAUSE < UPGRADE && UPGRADE < BEGIN_FIRST && BEGIN_FIRST < BEGIN_LAST);
    assert!(OFFER_ANSWER | OFFER_BODY | OFFER_SOCKET == 7);
};
