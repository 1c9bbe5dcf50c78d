//! The view of a request that handlers have, and what they change of it.
//!
//! ```text
//!  head as the gateway encoded it   │ method, path … headers │                     │ what the gateway says beside │
//!  head as the function gets it     │ the same bytes         │ what handlers added │ the same bytes               │
//! ```
//! Nothing of it is taken apart and put together again, unless a handler took one of the client's headers away.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use baton_abi::head::{Field, RawRecord, raw_records};
use baton_abi::limits::HEAD_MAX_BYTES;
use baton_catalog::policy::{Source, Template};
use smallvec::SmallVec;

use crate::jwt::Token;
use crate::keys::Key;
use crate::records::{append, append_with};
use crate::span::Trace;

/// Headers of one request that need no memory of their own.
const HEADERS_INLINE: usize = 16;
/// Room for what handlers add, at first.
const ADDED_BYTES: usize = 256;

/// The time, as whoever calls reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of a clock that never goes back.
    pub ns: u64,
    /// Seconds since the epoch, for chains that [read it](crate::Chain::reads_wall).
    pub unix_s: u64,
}

/// Who asks, as the node knows it: nothing of this is the client's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its identity by the certificate that it showed.
    pub identity: Option<&'a str>,
    /// Whether its connection is encrypted.
    pub is_secure: bool,
    /// The function that calls, of a call that leaves its node.
    pub caller: Option<&'a str>,
    /// The trace that the request is part of, if its spans are recorded.
    pub trace: Option<Trace>,
}

/// A request on its way in.
#[derive(Debug)]
pub struct Request<'a> {
    head: &'a [u8],
    /// Where in the head the first record stands that is the gateway's own; the end without one.
    own_at: usize,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// The client's headers that no handler took away, names in lower case.
    sent: SmallVec<[(&'a [u8], &'a [u8]); HEADERS_INLINE]>,
    /// Headers that handlers put in, as records.
    added: Vec<u8>,
    /// Which lengths the names of all these have, a bit each: most names that are looked for are of another.
    lengths: u64,
    /// Whether some of the client's were taken away.
    is_cut: bool,
    /// Whether something was added that no record holds.
    is_too_large: bool,
    pub(crate) client: Client<'a>,
    pub(crate) token: Option<Rc<Token>>,
    pub(crate) key: Option<Rc<Key>>,
}

impl<'a> Request<'a> {
    /// The view of a head as the gateway encoded it. What is malformed behind a record is left out.
    #[must_use]
    pub fn of(head: &'a [u8], client: Client<'a>) -> Self {
        let mut request = Self {
            head,
            own_at: head.len(),
            method: "",
            path: "",
            sent: SmallVec::new(),
            added: Vec::new(),
            lengths: 0,
            is_cut: false,
            is_too_large: false,
            client,
            token: None,
            key: None,
        };
        let mut end = 0;
        for record in raw_records(head) {
            match record.field {
                Field::Method => request.method = std::str::from_utf8(record.value).unwrap_or_default(),
                Field::Path => request.path = std::str::from_utf8(record.value).unwrap_or_default(),
                Field::Header => {
                    request.lengths |= length_bit(record.name);
                    request.sent.push((record.name, record.value));
                }
                Field::Query | Field::Param => {}
                Field::Identity | Field::Stream => request.own_at = request.own_at.min(end),
            }
            end += record.bytes();
        }
        request.head = head.get(..end).unwrap_or_default();
        request.own_at = request.own_at.min(end);
        request
    }

    /// The values of all headers of a name in lower case: the client's first.
    pub(crate) fn values<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        let name = name.as_bytes();
        let sent = self.sent.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value);
        sent.chain(
            raw_records(&self.added).filter(move |record| record.name == name).map(|record| record.value),
        )
    }

    /// Whether there may be a header of that name.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        self.lengths & length_bit(name.as_bytes()) != 0
    }

    /// The first header of a name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The only header of a name. Two of them are an attempt to show one thing here and another thing behind.
    pub(crate) fn only_header(&self, name: &str) -> Result<Option<&[u8]>, ()> {
        let mut found = self.values(name);
        let first = found.next();
        if found.next().is_some() { Err(()) } else { Ok(first) }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if !self.may_have(name) {
            return;
        }
        let name = name.as_bytes();
        let before = self.sent.len();
        self.sent.retain(|(known, _)| *known != name);
        self.is_cut |= self.sent.len() != before;
        if raw_records(&self.added).any(|record| record.name == name) {
            let before = std::mem::take(&mut self.added);
            for RawRecord { field, name, value } in raw_records(&before).filter(|record| record.name != name)
            {
                // It was there before.
                append(&mut self.added, field, name, value);
            }
        }
    }

    /// Adds a header whose value is written where it goes.
    pub(crate) fn add_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.make_room();
        self.lengths |= length_bit(name.as_bytes());
        self.is_too_large |= !append_with(&mut self.added, Field::Header, name.as_bytes(), write);
    }

    fn make_room(&mut self) {
        if self.added.capacity() == 0 {
            self.added = Vec::with_capacity(ADDED_BYTES);
        }
    }

    /// What was added behind the first so many bytes.
    pub(crate) fn added_since(&self, len: usize) -> &[u8] {
        self.added.get(len..).unwrap_or_default()
    }

    /// Bytes of all that was added.
    pub(crate) fn added_len(&self) -> usize {
        self.added.len()
    }

    /// Adds headers of these names, as [`Request::added_since`] had them of another request.
    pub(crate) fn add_again(&mut self, names: &[&str], records: &[u8]) {
        self.make_room();
        self.lengths = names.iter().fold(self.lengths, |all, name| all | length_bit(name.as_bytes()));
        self.added.extend_from_slice(records);
    }

    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        self.add_with(name, |to| to.extend_from_slice(value));
    }

    pub(crate) fn set_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.remove(name);
        self.add_with(name, write);
    }

    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        self.set_with(name, |to| to.extend_from_slice(value));
    }

    /// A header's value, to stand in another one.
    pub(crate) fn copy_of(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let is = |(known, _): &&(&[u8], &[u8])| *known == name.as_bytes();
        let sent = self.sent.iter().find(is).map(|(_, value)| Cow::Borrowed(*value));
        sent.or_else(|| self.header(name).map(|value| Cow::Owned(value.to_vec())))
    }

    /// What a source stands for; `None` if the request has nothing there.
    pub(crate) fn text(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        Some(match source {
            Source::All => Cow::Borrowed(&b""[..]),
            Source::Address => Cow::Owned(self.client.address?.to_string().into_bytes()),
            Source::Header(name) => Cow::Borrowed(self.header(name)?),
            Source::Param(name) => {
                let is =
                    |record: &RawRecord<'_>| record.field == Field::Param && record.name == name.as_bytes();
                Cow::Borrowed(raw_records(self.head).find(is)?.value)
            }
            Source::ApiKey => Cow::Borrowed(self.key.as_ref()?.name.as_bytes()),
            Source::Claim(name) => Cow::Owned(self.token.as_ref()?.claim(name)?.into_bytes()),
            Source::Identity => Cow::Borrowed(self.client.identity?.as_bytes()),
            Source::Caller => Cow::Borrowed(self.client.caller?.as_bytes()),
            Source::Method => Cow::Borrowed(self.method.as_bytes()),
            Source::Path => Cow::Borrowed(self.path.as_bytes()),
        })
    }

    /// A header's value; what the request does not have is left empty, and what cannot stand in a header becomes `?`.
    pub(crate) fn fill(&self, template: &Template) -> Vec<u8> {
        let mut value = Vec::new();
        for (literal, source) in template.parts() {
            value.extend_from_slice(literal.as_bytes());
            if let Some(text) = source.as_ref().and_then(|source| self.text(source)) {
                value.extend(text.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }));
            }
        }
        value
    }

    /// The head with what handlers changed, in pieces, one right behind the other; `None` if they changed nothing.
    ///
    /// # Errors
    /// It is larger than a head may be.
    pub fn changed(&self) -> Result<Option<[Cow<'_, [u8]>; 3]>, HeadTooLarge> {
        if self.is_too_large {
            return Err(HeadTooLarge);
        }
        if self.added.is_empty() && !self.is_cut {
            return Ok(None);
        }
        let pieces = match self.is_cut {
            true => [Cow::Owned(self.put_together()?), Cow::default(), Cow::default()],
            false => {
                let (front, own) = self.head.split_at_checked(self.own_at).unwrap_or((self.head, &[]));
                [front, self.added.as_slice(), own].map(Cow::Borrowed)
            }
        };
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if bytes > HEAD_MAX_BYTES { Err(HeadTooLarge) } else { Ok(Some(pieces)) }
    }

    /// The head anew, without the headers that are gone.
    fn put_together(&self) -> Result<Vec<u8>, HeadTooLarge> {
        let is_own = |record: &RawRecord<'_>| matches!(record.field, Field::Identity | Field::Stream);
        let is_first = |record: &RawRecord<'_>| record.field != Field::Header && !is_own(record);
        let sent = self.sent.iter().map(|&(name, value)| RawRecord { field: Field::Header, name, value });
        let headers = sent.chain(raw_records(&self.added));
        let all = raw_records(self.head)
            .filter(is_first)
            .chain(headers)
            .chain(raw_records(self.head).filter(is_own));
        let mut head = Vec::with_capacity(self.head.len() + self.added.len());
        for RawRecord { field, name, value } in all {
            if !append(&mut head, field, name, value) {
                return Err(HeadTooLarge);
            }
        }
        Ok(head)
    }
}

/// The bit of a name's length; all long ones share the last.
fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

/// Policies made a request's head larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTooLarge;
