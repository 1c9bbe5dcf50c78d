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

use baton_abi::head::{Field, Record, record_bytes, records};
use baton_abi::limits::HEAD_MAX_BYTES;
use baton_catalog::policy::{Source, Template};
use smallvec::SmallVec;

use crate::jwt::Token;
use crate::keys::Key;
use crate::records::{append, append_with};
use crate::span::Trace;

/// Headers of one request that need no memory of their own.
const HEADERS_INLINE: usize = 16;
/// Headers that handlers add whose places need none.
const ADDED_INLINE: usize = 8;
/// Room for what handlers add, at first.
const ADDED_BYTES: usize = 256;
/// Bytes of a record in front of its name.
const PREFIX_BYTES: usize = record_bytes("", b"");

/// The time, as whoever calls reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of a clock that never goes back.
    pub ns: u64,
    /// Seconds since the epoch.
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
    sent: SmallVec<[(&'a str, &'a [u8]); HEADERS_INLINE]>,
    /// Headers that handlers put in, as records.
    added: Vec<u8>,
    /// Where in these the name and the value of each begin.
    places: SmallVec<[(usize, usize); ADDED_INLINE]>,
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
            places: SmallVec::new(),
            is_cut: false,
            is_too_large: false,
            client,
            token: None,
            key: None,
        };
        let mut at = 0;
        for record in records(head).map_while(Result::ok) {
            match record.field {
                Field::Method => request.method = std::str::from_utf8(record.value).unwrap_or_default(),
                Field::Path => request.path = std::str::from_utf8(record.value).unwrap_or_default(),
                Field::Header => request.sent.push((record.name, record.value)),
                Field::Query | Field::Param => {}
                Field::Identity | Field::Stream => request.own_at = request.own_at.min(at),
            }
            at += record_bytes(record.name, record.value);
        }
        request.head = head.get(..at).unwrap_or_default();
        request.own_at = request.own_at.min(at);
        request
    }

    /// The values of all headers of a name in lower case: the client's first.
    pub(crate) fn values<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        let sent = self.sent.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value);
        let added = (0..self.places.len()).filter_map(move |nth| self.added_as(nth, name));
        sent.chain(added)
    }

    /// The value of the n-th header that was added, if it is of that name. Looked at as bytes: most are of another.
    fn added_as(&self, nth: usize, name: &str) -> Option<&[u8]> {
        let &(name_at, value_at) = self.places.get(nth)?;
        if self.added.get(name_at..value_at)? != name.as_bytes() {
            return None;
        }
        let next = self.places.get(nth + 1).map_or(self.added.len(), |(next, _)| next - PREFIX_BYTES);
        self.added.get(value_at..next)
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
        let before = self.sent.len();
        self.sent.retain(|(known, _)| *known != name);
        self.is_cut |= self.sent.len() != before;
        if (0..self.places.len()).any(|nth| self.added_as(nth, name).is_some()) {
            let before = std::mem::take(&mut self.added);
            self.places.clear();
            for record in of(&before).filter(|record| record.name != name) {
                self.add(record.name, record.value);
            }
        }
    }

    /// Adds a header whose value is written where it goes.
    pub(crate) fn add_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if self.added.capacity() == 0 {
            self.added.reserve(ADDED_BYTES);
        }
        let at = self.added.len();
        match append_with(&mut self.added, Field::Header, name, write) {
            true => self.places.push((at + PREFIX_BYTES, at + record_bytes(name, b""))),
            false => self.is_too_large = true,
        }
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
        let sent = self.sent.iter().find(|(known, _)| *known == name).map(|(_, value)| Cow::Borrowed(*value));
        sent.or_else(|| self.header(name).map(|value| Cow::Owned(value.to_vec())))
    }

    /// What a source stands for; `None` if the request has nothing there.
    pub(crate) fn text(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        Some(match source {
            Source::All => Cow::Borrowed(&b""[..]),
            Source::Address => Cow::Owned(self.client.address?.to_string().into_bytes()),
            Source::Header(name) => Cow::Borrowed(self.header(name)?),
            Source::Param(name) => {
                let is = |record: &Record<'_>| record.field == Field::Param && record.name == name;
                Cow::Borrowed(of(self.head).find(is)?.value)
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
        let is_own = |record: &Record<'_>| matches!(record.field, Field::Identity | Field::Stream);
        let is_first = |record: &Record<'_>| record.field != Field::Header && !is_own(record);
        let sent = self.sent.iter().map(|&(name, value)| Record { field: Field::Header, name, value });
        let headers = sent.chain(of(&self.added));
        let all = of(self.head).filter(is_first).chain(headers).chain(of(self.head).filter(is_own));
        let mut head = Vec::with_capacity(self.head.len() + self.added.len());
        for Record { field, name, value } in all {
            if !append(&mut head, field, name, value) {
                return Err(HeadTooLarge);
            }
        }
        Ok(head)
    }
}

/// The records of a head, up to the first that is malformed.
fn of(head: &[u8]) -> impl Iterator<Item = Record<'_>> {
    records(head).map_while(Result::ok)
}

/// Policies made a request's head larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTooLarge;
