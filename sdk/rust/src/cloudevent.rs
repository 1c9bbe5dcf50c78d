//! CloudEvents 1.0, as the gateway hands them over: attributes in headers, the payload in the body, whatever the mode outside.

use core::fmt::Write as _;
use std::borrow::Cow;

use crate::request::Request;
use crate::response::Response;

/// The event that a request carries.
#[derive(Clone, Copy, Debug)]
pub struct CloudEvent<'a> {
    request: &'a Request,
}

impl<'a> CloudEvent<'a> {
    /// Names the event among those of its source.
    #[must_use]
    pub fn id(&self) -> Cow<'a, str> {
        self.attribute("id").unwrap_or_default()
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> Cow<'a, str> {
        self.attribute("source").unwrap_or_default()
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Cow<'a, str> {
        self.attribute("type").unwrap_or_default()
    }

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Option<Cow<'a, str>> {
        self.attribute("subject")
    }

    /// When it happened, by RFC 3339.
    #[must_use]
    pub fn time(&self) -> Option<Cow<'a, str>> {
        self.attribute("time")
    }

    /// The media type of the payload.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        self.request.header("content-type")
    }

    /// Any attribute, extensions included.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut header = String::with_capacity(3 + name.len());
        header.push_str("ce-");
        header.push_str(name);
        self.request.header(&header).map(unescape)
    }

    /// The payload, in place.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.request.body()
    }
}

impl Request {
    /// The CloudEvent that it is, if it is one.
    #[must_use]
    pub fn cloud_event(&self) -> Option<CloudEvent<'_>> {
        (self.header("ce-specversion") == Some("1.0")).then_some(CloudEvent { request: self })
    }
}

impl Response {
    /// Makes it a CloudEvent with the attributes that each has. The client gets it in the mode in which it asked.
    pub fn cloud_event(self, id: &str, source: &str, kind: &str) -> Response {
        self.header("ce-specversion", "1.0")
            .event_attribute("id", id)
            .event_attribute("source", source)
            .event_attribute("type", kind)
    }

    /// Adds an attribute, such as `subject`, or an extension. Its name has lower-case letters and digits.
    pub fn event_attribute(self, name: &str, value: &str) -> Response {
        let mut header = String::with_capacity(3 + name.len());
        header.push_str("ce-");
        header.push_str(name);
        self.header(&header, escape(value).as_bytes())
    }
}

/// A value as a header may carry it.
fn escape(value: &str) -> Cow<'_, str> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"' && *byte != b'%';
    if value.as_bytes().iter().all(is_plain) {
        return Cow::Borrowed(value);
    }
    let mut escaped = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if is_plain(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    Cow::Owned(escaped)
}

fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('%') {
        return Cow::Borrowed(value);
    }
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = value.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                text.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                text.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_crosses_a_header() {
        for text in ["", "plain/1.0", "a b", "100 %", "\"quoted\"", "Euro €", "%41", "tab\tnew\n"] {
            let carried = escape(text);
            assert!(carried.bytes().all(|byte| byte.is_ascii_graphic()), "{carried}");
            assert_eq!(unescape(&carried), text);
        }
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz%4"), "%zz%4");
    }
}
