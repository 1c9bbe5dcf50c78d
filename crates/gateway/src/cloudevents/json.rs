//! Events as JSON. The payload is taken as it stands in the text: numbers keep every digit, and objects their order.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use super::text::is_json;
use super::{BATCH_MAX, CloudEvent, EventFault};

/// An event in structured mode.
///
/// # Errors
/// [`EventFault`].
pub fn from_structured(text: &[u8]) -> Result<CloudEvent, EventFault> {
    let mut reader = Text::of(text)?;
    let event = reader.event()?;
    reader.end()?;
    Ok(event)
}

/// The events of a batch.
///
/// # Errors
/// [`EventFault`].
pub fn from_batch(text: &[u8]) -> Result<Vec<CloudEvent>, EventFault> {
    let mut reader = Text::of(text)?;
    reader.expect(b'[')?;
    let mut events = Vec::new();
    let mut count = 0;
    if !reader.takes(b']') {
        loop {
            if count < BATCH_MAX {
                let event = reader.event();
                events.push(
                    event.map_err(|fault| EventFault::InBatch { place: count, fault: Box::new(fault) })?,
                );
            } else {
                // How many too many there are is worth saying.
                reader.value::<IgnoredAny>()?;
            }
            count += 1;
            if !reader.takes(b',') {
                break;
            }
        }
        reader.expect(b']')?;
    }
    reader.end()?;
    if count > BATCH_MAX { Err(EventFault::BatchTooLong(count)) } else { Ok(events) }
}

/// A text that is read value by value.
struct Text<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    fn of(text: &'a [u8]) -> Result<Self, EventFault> {
        let text = std::str::from_utf8(text).map_err(|_| EventFault::Json("it is not UTF-8".to_owned()))?;
        Ok(Self { text, at: 0 })
    }

    fn left(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self) {
        let left = self.left();
        self.at += left.len() - left.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.skip();
        let found = self.left().as_bytes().first() == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), EventFault> {
        if self.takes(byte) {
            return Ok(());
        }
        Err(EventFault::Json(format!("`{}` is expected at byte {}", char::from(byte), self.at)))
    }

    fn end(&mut self) -> Result<(), EventFault> {
        self.skip();
        if self.left().is_empty() {
            Ok(())
        } else {
            Err(EventFault::Json(format!("there is more at byte {}", self.at)))
        }
    }

    /// One value, and the text that it is.
    fn value<V: serde::de::DeserializeOwned>(&mut self) -> Result<(V, &'a str), EventFault> {
        self.skip();
        let left = self.left();
        let mut values = Deserializer::from_str(left).into_iter::<V>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Err(EventFault::Json(format!("{error}, behind byte {}", self.at))),
            None => return Err(EventFault::Json("it ends too early".to_owned())),
        };
        let len = values.byte_offset();
        self.at += len;
        Ok((value, left.get(..len).unwrap_or_default()))
    }

    fn event(&mut self) -> Result<CloudEvent, EventFault> {
        let mut event = CloudEvent::default();
        let (mut data, mut encoded): (Option<&str>, Option<String>) = (None, None);
        self.expect(b'{')?;
        if !self.takes(b'}') {
            loop {
                let (name, _) = self.value::<String>()?;
                self.expect(b':')?;
                match name.as_str() {
                    "data" if data.is_some() => return Err(EventFault::Twice(name)),
                    "data" => data = Some(self.value::<IgnoredAny>()?.1.trim()),
                    "data_base64" if encoded.is_some() => return Err(EventFault::Twice(name)),
                    "data_base64" => encoded = Some(self.value::<String>()?.0),
                    _ => {
                        let (value, _) = self.value::<Value>()?;
                        set(&mut event, &name, value)?;
                    }
                }
                if !self.takes(b',') {
                    break;
                }
            }
            self.expect(b'}')?;
        }
        event.data = match (data.filter(|data| *data != "null"), encoded) {
            (Some(_), Some(_)) => return Err(EventFault::TwoPayloads),
            (None, None) => Vec::new(),
            (None, Some(encoded)) => STANDARD
                .decode(&encoded)
                .map_err(|_| EventFault::Value { name: "data_base64".to_owned(), why: "is not base64" })?,
            (Some(data), None) => payload(&mut event, data)?,
        };
        event.checked()
    }
}

fn set(event: &mut CloudEvent, name: &str, value: Value) -> Result<(), EventFault> {
    let text = match value {
        // As good as absent.
        Value::Null => return Ok(()),
        Value::String(text) => text,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {
            number.to_string()
        }
        _ => {
            let why = "is no text, truth value or whole number of 32 bits";
            return Err(EventFault::Value { name: name.to_owned(), why });
        }
    };
    if name != "datacontenttype" {
        return event.put(name, text);
    }
    if event.content_type.replace(text).is_some() {
        return Err(EventFault::Twice(name.to_owned()));
    }
    Ok(())
}

/// What `data` stands for: itself if the payload is JSON, else the text in it.
fn payload(event: &mut CloudEvent, data: &str) -> Result<Vec<u8>, EventFault> {
    let kind = event.content_type.get_or_insert_with(|| "application/json".to_owned());
    if is_json(kind) {
        return Ok(data.as_bytes().to_vec());
    }
    let why = "is no text, though datacontenttype is not JSON";
    let bad = |_| EventFault::Value { name: "data".to_owned(), why };
    serde_json::from_str::<String>(data).map(String::into_bytes).map_err(bad)
}

/// An event in structured mode.
#[must_use]
pub fn to_structured(event: &CloudEvent) -> Vec<u8> {
    let mut text = String::with_capacity(event.data.len() + 256);
    write(event, &mut text);
    text.into_bytes()
}

/// Events in batch mode.
#[must_use]
pub fn to_batch(events: &[CloudEvent]) -> Vec<u8> {
    let mut text = String::from("[");
    for (place, event) in events.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        write(event, &mut text);
    }
    text.push(']');
    text.into_bytes()
}

fn write(event: &CloudEvent, to: &mut String) {
    let quoted = |text: &str| Value::from(text).to_string();
    to.push('{');
    let content_type = event.content_type().map(|kind| ("datacontenttype", kind));
    for (place, (name, value)) in event.attributes().chain(content_type).enumerate() {
        if place > 0 {
            to.push(',');
        }
        to.push_str(&quoted(name));
        to.push(':');
        to.push_str(&quoted(value));
    }
    if !event.data.is_empty() {
        let text = std::str::from_utf8(&event.data).ok();
        let says_json = event.content_type().is_none_or(is_json);
        let is_valid = |text: &&str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        match text {
            Some(text) if says_json && is_valid(&text) => {
                to.push_str(",\"data\":");
                to.push_str(text);
            }
            Some(text) if event.content_type().is_some_and(|kind| !is_json(kind)) => {
                to.push_str(",\"data\":");
                to.push_str(&quoted(text));
            }
            _ => {
                to.push_str(",\"data_base64\":\"");
                to.push_str(&STANDARD.encode(&event.data));
                to.push('"');
            }
        }
    }
    to.push('}');
}
