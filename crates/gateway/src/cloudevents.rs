//! CloudEvents 1.0 over HTTP, as values: what comes in any of the three modes is one kind of event, and goes out in any of them.
//!
//! | mode | `Content-Type` | attributes | payload |
//! |---|---|---|---|
//! | binary | the payload's | headers `ce-*` | the body |
//! | structured | `application/cloudevents+json` | members of the body | its `data` or `data_base64` |
//! | batch | `application/cloudevents-batch+json` | a list of such objects | |
//!
//! Nothing here does input or output. What is wrong with an event is said so that its sender can mend it.

mod json;
mod text;

use std::fmt;

pub use self::json::{from_batch, from_structured, to_batch, to_structured};
use self::text::{escape, unescape};

/// Attributes of one event, at most.
pub const ATTRIBUTES_MAX: usize = 64;
/// Bytes of one attribute's value, at most.
pub const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an attribute's name, at most.
pub const NAME_BYTES_MAX: usize = 64;
/// Events of one batch, at most.
pub const BATCH_MAX: usize = 256;
/// The media type of an event as JSON.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The media type of several.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// What headers of attributes begin with.
const PREFIX: &str = "ce-";

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers.
    Binary,
    /// All in one JSON object.
    Structured,
    /// A list of such objects.
    Batch,
}

/// Why something is no CloudEvent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventFault {
    /// An attribute that each event has is not there.
    Missing(&'static str),
    /// It is of another version.
    Version(String),
    /// A name that no attribute has.
    Name(String),
    /// A value that the attribute cannot have.
    Value {
        /// The attribute.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It stands twice.
    Twice(String),
    /// There are more than [`ATTRIBUTES_MAX`].
    TooMany,
    /// The JSON is not as it should be.
    Json(String),
    /// There is both `data` and `data_base64`.
    TwoPayloads,
    /// There are more than [`BATCH_MAX`] events.
    BatchTooLong(usize),
    /// A form of CloudEvents that is not understood.
    MediaType(String),
    /// One of a batch.
    InBatch {
        /// Which, counted from 0.
        place: usize,
        /// What is wrong with it.
        fault: Box<EventFault>,
    },
}

impl EventFault {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::MediaType(_) => 415,
            Self::BatchTooLong(_) => 413,
            _ => 400,
        }
    }
}

impl fmt::Display for EventFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(
                f,
                "no CloudEvent: {name} is missing; send it as header ce-{name}, or as a member of an {STRUCTURED} object"
            ),
            Self::Version(version) => {
                write!(f, "CloudEvents of specversion {version:?} are not taken; send 1.0")
            }
            Self::Name(name) => {
                write!(
                    f,
                    "{name:?} cannot name an attribute: lower-case letters and digits do, at most {NAME_BYTES_MAX}"
                )
            }
            Self::Value { name, why } => write!(f, "attribute {name} {why}"),
            Self::Twice(name) => write!(f, "attribute {name} stands twice"),
            Self::TooMany => write!(f, "the event has more than {ATTRIBUTES_MAX} attributes"),
            Self::Json(why) => write!(f, "the event is not the JSON that it should be: {why}"),
            Self::TwoPayloads => f.write_str("the event has both data and data_base64; send one of them"),
            Self::BatchTooLong(count) => {
                write!(f, "the batch has {count} events, the most is {BATCH_MAX}; send several batches")
            }
            Self::MediaType(found) => {
                write!(f, "{found:?} is not understood; send {STRUCTURED}, {BATCH}, or binary mode")
            }
            Self::InBatch { place, fault } => write!(f, "event {place} of the batch: {fault}"),
        }
    }
}

impl std::error::Error for EventFault {}

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudEvent {
    /// Names and values, all but `datacontenttype`.
    attributes: Vec<(String, String)>,
    /// What the payload is, if that is said.
    content_type: Option<String>,
    /// The payload.
    pub data: Vec<u8>,
}

impl Mode {
    /// The mode that a request or an answer is in, by its `Content-Type`.
    ///
    /// # Errors
    /// [`EventFault::MediaType`].
    pub fn of(content_type: Option<&str>) -> Result<Self, EventFault> {
        let Some(content_type) = content_type else { return Ok(Self::Binary) };
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let kind = kind.trim().to_ascii_lowercase();
        if !kind.starts_with("application/cloudevents") {
            return Ok(Self::Binary);
        }
        let refused = || EventFault::MediaType(content_type.to_owned());
        let charset = parameters.split(';').filter_map(|parameter| parameter.trim().split_once('='));
        for (name, value) in charset {
            let value = value.trim_matches('"');
            if name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
                return Err(refused());
            }
        }
        match kind.as_str() {
            STRUCTURED => Ok(Self::Structured),
            BATCH => Ok(Self::Batch),
            _ => Err(refused()),
        }
    }
}

/// Whether a header belongs to events in binary mode, or says what the payload is.
#[must_use]
pub fn is_of_event(header: &str) -> bool {
    header.starts_with(PREFIX) || header == "content-type" || header == "content-length"
}

impl CloudEvent {
    /// The attributes of an event in binary mode. Names of headers are in lower case; headers that are none of its are passed over.
    ///
    /// # Errors
    /// [`EventFault`].
    pub fn from_headers<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, EventFault> {
        let mut event = Self::default();
        for (header, value) in headers {
            if header == "content-type" {
                let text = std::str::from_utf8(value).ok();
                event.content_type = text.map(str::to_owned);
            } else if let Some(name) = header.strip_prefix(PREFIX) {
                let why = "is not UTF-8";
                let bad = || EventFault::Value { name: name.to_owned(), why };
                let text = std::str::from_utf8(value).map_err(|_| bad())?;
                if name == "datacontenttype" {
                    return Err(EventFault::Value {
                        name: name.to_owned(),
                        why: "is Content-Type in binary mode; send that",
                    });
                }
                event.put(name, unescape(text).ok_or_else(bad)?)?;
            }
        }
        event.checked()
    }

    /// Its headers in binary mode.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let content_type =
            self.content_type.iter().map(|kind| ("content-type".to_owned(), kind.clone().into_bytes()));
        let attributes = self
            .attributes
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), escape(value).into_bytes()));
        content_type.chain(attributes).collect()
    }

    /// The same event with another payload.
    #[must_use]
    pub fn with_data(self, data: Vec<u8>) -> Self {
        Self { data, ..self }
    }

    /// The value of an attribute; empty without one.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The attributes, all but `datacontenttype`.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What the payload is, if that is said.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    fn put(&mut self, name: &str, value: String) -> Result<(), EventFault> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) || name == "data" {
            return Err(EventFault::Name(name.to_owned()));
        }
        if self.attributes.iter().any(|(known, _)| known == name) {
            return Err(EventFault::Twice(name.to_owned()));
        }
        if self.attributes.len() >= ATTRIBUTES_MAX {
            return Err(EventFault::TooMany);
        }
        let refused = |why| Err(EventFault::Value { name: name.to_owned(), why });
        if value.len() > VALUE_BYTES_MAX {
            return refused("has more than 8 KiB");
        }
        if value.chars().any(char::is_control) {
            return refused("holds a control character");
        }
        self.attributes.push((name.to_owned(), value));
        Ok(())
    }

    /// What CloudEvents 1.0 asks of each event.
    fn checked(self) -> Result<Self, EventFault> {
        let found = |name: &str| self.attributes.iter().find(|(known, _)| known == name);
        match found("specversion") {
            None => return Err(EventFault::Missing("specversion")),
            Some((_, version)) if version != "1.0" => return Err(EventFault::Version(version.clone())),
            Some(_) => {}
        }
        for name in ["id", "source", "type"] {
            if found(name).is_none() {
                return Err(EventFault::Missing(name));
            }
        }
        for name in ["id", "source", "type", "subject", "dataschema"] {
            if found(name).is_some_and(|(_, value)| value.is_empty()) {
                return Err(EventFault::Value { name: name.to_owned(), why: "is empty" });
            }
        }
        let refused = |name: &str, why| Err(EventFault::Value { name: name.to_owned(), why });
        for name in ["source", "dataschema"] {
            let odd = |letter: char| letter.is_whitespace() || "<>\"{}|\\^`".contains(letter);
            if found(name).is_some_and(|(_, value)| value.contains(odd)) {
                return refused(name, "is no URI");
            }
        }
        if found("time").is_some_and(|(_, value)| !text::is_moment(value)) {
            return refused("time", "is no time such as 2026-04-05T17:31:00Z");
        }
        if self.content_type.as_ref().is_some_and(|kind| !text::is_media_type(kind)) {
            return refused("datacontenttype", "is no media type such as application/json");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
