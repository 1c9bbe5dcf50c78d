//! Received messages, however they came: a payload, and a head with method, path and headers where there is one.

use baton_abi::head::{Field, Record, records};
use baton_abi::{Extent, Flags, NONE};
use baton_pool::capability::Range;

use crate::body::Body;
use crate::error::Error;
use crate::runtime::Runtime;

/// Where the head of a message lies.
#[derive(Debug)]
pub(crate) enum Head {
    Absent,
    /// In the same buffer as the payload, at this range.
    Beside {
        offset: u32,
        len: u32,
    },
    /// The buffer holds the head and nothing else.
    Alone,
    /// In a buffer of its own, beside the payload's.
    Apart(Box<Body>),
}

/// The payload of a message, or its head where there is no payload.
#[derive(Debug)]
pub(crate) enum Content {
    Empty,
    /// Came in the descriptor itself.
    Inline(Inline),
    Body(Body),
}

/// A payload of up to eight bytes.
pub(crate) struct Inline {
    runtime: Runtime,
    bytes: [u8; 8],
    len: u8,
}

impl core::fmt::Debug for Inline {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inline").field("len", &self.len).finish()
    }
}

/// A received message. It is moved a few times on its way to the handler, so it is kept small.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) content: Content,
    pub(crate) head: Head,
}

impl Accepted {
    fn head_bytes(&self) -> &[u8] {
        match (&self.head, &self.content) {
            (Head::Beside { offset, len }, Content::Body(body)) => {
                body.before(Range { offset: u64::from(*offset), len: u64::from(*len) })
            }
            (Head::Alone, Content::Body(head)) => head,
            (Head::Apart(head), _) => head,
            _ => &[],
        }
    }

    /// Whether there are method, path or headers.
    #[inline]
    pub(crate) fn has_head(&self) -> bool {
        !matches!(self.head, Head::Absent)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        records(self.head_bytes()).map_while(Result::ok)
    }

    pub(crate) fn find(&self, field: Field, name: &str) -> Option<&[u8]> {
        self.records().find(|record| record.field == field && record.name == name).map(|record| record.value)
    }

    pub(crate) fn text(&self, field: Field, name: &str) -> Option<&str> {
        self.find(field, name).and_then(|value| core::str::from_utf8(value).ok())
    }

    pub(crate) fn body(&self) -> &[u8] {
        match (&self.content, &self.head) {
            (_, Head::Alone) | (Content::Empty, _) => &[],
            (Content::Body(body), _) => body,
            (Content::Inline(inline), _) => inline.bytes(),
        }
    }

    pub(crate) fn into_body(self) -> Result<Body, Error> {
        match (self.content, self.head) {
            (Content::Body(body), Head::Absent | Head::Beside { .. } | Head::Apart(_)) => Ok(body),
            (Content::Inline(inline), _) => inline.into_body(),
            _ => Err(Error::Layout { len: 0, expected: 1 }),
        }
    }
}

impl Inline {
    /// What the body of a descriptor says, if it is inline.
    #[inline]
    pub(crate) fn of(runtime: Runtime, body: Extent, flags: Flags) -> Content {
        match u8::try_from(body.len) {
            Ok(len @ ..=8) if flags.has(Flags::INLINE) && body.handle == NONE => {
                Content::Inline(Inline { runtime, bytes: body.offset.to_le_bytes(), len })
            }
            _ => Content::Empty,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// As a body of its own: what fits a descriptor moves into a buffer when someone wants to keep it.
    fn into_body(self) -> Result<Body, Error> {
        let mut buffer = self.runtime.alloc(self.bytes().len())?;
        buffer.extend_from_slice(self.bytes())?;
        Ok(buffer.into_body())
    }
}
