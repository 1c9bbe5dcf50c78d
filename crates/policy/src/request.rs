//! The view of a request that handlers have, and what they change of it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use baton_abi::head::{Field, record_bytes, records, write_record};
use baton_abi::limits::HEAD_MAX_BYTES;
use baton_catalog::policy::{Source, Template};

use crate::jwt::Token;
use crate::keys::Key;
use crate::span::Trace;

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
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    query: Option<&'a [u8]>,
    params: Vec<(&'a str, &'a [u8])>,
    /// Names in lower case.
    pub(crate) headers: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    pub(crate) client: Client<'a>,
    pub(crate) token: Option<Rc<Token>>,
    pub(crate) key: Option<Rc<Key>>,
    pub(crate) is_changed: bool,
    /// What the gateway says beside what the client said.
    of_gateway: Vec<(Field, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// The view of a head as the gateway encoded it. What is malformed behind a record is left out.
    #[must_use]
    pub fn of(head: &'a [u8], client: Client<'a>) -> Self {
        let mut request = Self {
            method: "",
            path: "",
            query: None,
            params: Vec::new(),
            headers: Vec::with_capacity(16),
            client,
            token: None,
            key: None,
            is_changed: false,
            of_gateway: Vec::new(),
        };
        for record in records(head).map_while(Result::ok) {
            match record.field {
                Field::Method => request.method = std::str::from_utf8(record.value).unwrap_or_default(),
                Field::Path => request.path = std::str::from_utf8(record.value).unwrap_or_default(),
                Field::Query => request.query = Some(record.value),
                Field::Param => request.params.push((record.name, record.value)),
                Field::Header => {
                    request.headers.push((Cow::Borrowed(record.name), Cow::Borrowed(record.value)));
                }
                Field::Identity | Field::Stream => request.of_gateway.push((record.field, record.value)),
            }
        }
        request
    }

    /// The first header of a name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// The only header of a name. Two of them are an attempt to show one thing here and another thing behind.
    pub(crate) fn only_header(&self, name: &str) -> Result<Option<&[u8]>, ()> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let first = found.next().map(|(_, value)| value.as_ref());
        if found.next().is_some() { Err(()) } else { Ok(first) }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let before = self.headers.len();
        self.headers.retain(|(known, _)| known != name);
        self.is_changed |= self.headers.len() != before;
    }

    pub(crate) fn add(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, [u8]>>) {
        self.headers.push((name.into(), value.into()));
        self.is_changed = true;
    }

    pub(crate) fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, [u8]>>) {
        let name = name.into();
        let Some(first) = self.headers.iter().position(|(known, _)| *known == name) else {
            return self.add(name, value);
        };
        if let Some((_, old)) = self.headers.get_mut(first) {
            *old = value.into();
        }
        self.is_changed = true;
        let mut at = 0..;
        self.headers.retain(|(known, _)| at.next().is_none_or(|at: usize| at <= first) || *known != name);
    }

    /// A header's value, to stand in another one.
    pub(crate) fn copy_of(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// What a source stands for; `None` if the request has nothing there.
    pub(crate) fn text(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        Some(match source {
            Source::All => Cow::Borrowed(&b""[..]),
            Source::Address => Cow::Owned(self.client.address?.to_string().into_bytes()),
            Source::Header(name) => Cow::Borrowed(self.header(name)?),
            Source::Param(name) => {
                let found = self.params.iter().find(|(known, _)| known == name);
                Cow::Borrowed(found?.1)
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

    /// The head with what handlers changed; `None` if they changed nothing.
    ///
    /// # Errors
    /// It is larger than a head may be.
    pub fn encoded(&self) -> Result<Option<Vec<u8>>, HeadTooLarge> {
        if !self.is_changed {
            return Ok(None);
        }
        let named = |headers: &[(Cow<'_, str>, Cow<'_, [u8]>)]| -> usize {
            headers.iter().map(|(name, value)| record_bytes(name, value)).sum()
        };
        let params: usize = self.params.iter().map(|(name, value)| record_bytes(name, value)).sum();
        let plain = [self.method.as_bytes(), self.path.as_bytes()];
        let others =
            plain.into_iter().chain(self.query).chain(self.of_gateway.iter().map(|(_, value)| *value));
        let bytes =
            params + named(&self.headers) + others.map(|value| record_bytes("", value)).sum::<usize>();
        if bytes > HEAD_MAX_BYTES {
            return Err(HeadTooLarge);
        }
        let (mut head, mut at) = (vec![0; bytes], 0);
        let mut add = |field, name: &str, value: &[u8]| {
            at = write_record(&mut head, at, field, name, value).map_err(|_| HeadTooLarge)?;
            Ok(())
        };
        add(Field::Method, "", self.method.as_bytes())?;
        add(Field::Path, "", self.path.as_bytes())?;
        if let Some(query) = self.query {
            add(Field::Query, "", query)?;
        }
        for (name, value) in &self.params {
            add(Field::Param, name, value)?;
        }
        for (name, value) in &self.headers {
            add(Field::Header, name, value)?;
        }
        for (field, value) in &self.of_gateway {
            add(*field, "", value)?;
        }
        Ok(Some(head))
    }
}

/// Policies made a request's head larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTooLarge;
