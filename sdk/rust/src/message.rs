//! Received messages, however they came: a payload, and a head with method, path and headers where there is one.

use baton_abi::head::{Field, Record, records};
use baton_abi::{Extent, Flags, NONE};

use crate::body::Body;
use crate::error::Error;
use crate::held::{Head, Held, INLINE_WORDS};
use crate::runtime::Runtime;

/// A received message; nothing is held for one without payload and head.
#[derive(Debug)]
pub(crate) struct Message(pub(crate) Option<Held>);

impl Message {
    /// What the body of a descriptor says, if it is inline. `small` are the words that came beside it, where any did.
    #[inline]
    pub(crate) fn inline(
        runtime: Runtime,
        body: Extent,
        flags: Flags,
        small: Option<&[u64; INLINE_WORDS]>,
    ) -> Option<Held> {
        let len = usize::try_from(body.len).ok()?;
        if !flags.has(Flags::INLINE) || body.handle != NONE {
            return None;
        }
        if len <= size_of::<u64>() {
            return Some(Held::inline(runtime, &[body.offset, 0, 0, 0, 0, 0, 0, 0], len));
        }
        let words = small?;
        (len <= size_of_val(words)).then(|| Held::inline(runtime, words, len))
    }

    /// `content`, with a head that lies in a buffer of its own.
    pub(crate) fn with_head(content: Option<Held>, mut head: Held) -> Message {
        match content {
            Some(mut content) => {
                content.head = Head::Apart(head);
                Message(Some(content))
            }
            None => {
                head.head = Head::Alone;
                Message(Some(head))
            }
        }
    }

    /// Whether there are method, path or headers.
    #[inline]
    pub(crate) fn has_head(&self) -> bool {
        self.0.as_ref().is_some_and(|held| !matches!(held.head, Head::Absent))
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let head = self.0.as_ref().map_or(&[][..], |held| held.head());
        records(head).map_while(Result::ok)
    }

    pub(crate) fn find(&self, field: Field, name: &str) -> Option<&[u8]> {
        self.records().find(|record| record.field == field && record.name == name).map(|record| record.value)
    }

    pub(crate) fn text(&self, field: Field, name: &str) -> Option<&str> {
        self.find(field, name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Names and values of all parameters.
    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let params = self.records().filter(|record| record.field == Field::Param);
        params.filter_map(|record| Some((record.name, core::str::from_utf8(record.value).ok()?)))
    }

    /// Names and values of all headers.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.records().filter(|record| record.field == Field::Header);
        headers.map(|record| (record.name, record.value))
    }

    #[inline]
    pub(crate) fn body(&self) -> &[u8] {
        match &self.0 {
            Some(held) if !matches!(held.head, Head::Alone) => held.bytes(),
            _ => &[],
        }
    }

    pub(crate) fn into_body(self) -> Result<Body, Error> {
        match self.0 {
            Some(mut held) if !matches!(held.head, Head::Alone) => {
                held.head = Head::Absent;
                Ok(Body { held })
            }
            _ => Err(Error::Layout { len: 0, expected: 1 }),
        }
    }
}
