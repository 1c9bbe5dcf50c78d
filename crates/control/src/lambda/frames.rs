//! `application/vnd.amazon.eventstream`: messages of a response that comes in parts.
//!
//! ```text
//!   total length 4 │ length of headers 4 │ CRC of these 4 │ headers │ payload │ CRC of all before 4      big-endian
//!   a header: length of its name 1 │ name │ 7 (text) │ length 2 │ value
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

/// Most bytes of one part: a message may have 16 MiB, and clients read each whole.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
const TEXT: u8 = 7;
/// Prelude and both sums.
const FRAME_BYTES: usize = 16;

fn message(event: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::new();
    let pairs = [(":message-type", "event"), (":event-type", event), (":content-type", content_type)];
    for (name, value) in pairs {
        // Both are short, and of this file.
        headers.put_u8(u8::try_from(name.len()).unwrap_or(0));
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(u16::try_from(value.len()).unwrap_or(0));
        headers.put_slice(value.as_bytes());
    }
    let total = FRAME_BYTES + headers.len() + payload.len();
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(u32::try_from(total).unwrap_or(0));
    out.put_u32(u32::try_from(headers.len()).unwrap_or(0));
    out.put_u32(crc32fast::hash(&out));
    out.put_slice(&headers);
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

/// A part of the payload.
pub(super) fn chunk(payload: &[u8]) -> Bytes {
    message("PayloadChunk", "application/octet-stream", payload)
}

/// The end, with what went wrong if something did.
pub(super) fn complete(error: Option<(&str, &str)>, log: Option<&str>) -> Bytes {
    let mut body = Map::new();
    if let Some((code, details)) = error {
        body.insert("ErrorCode".to_owned(), code.into());
        body.insert("ErrorDetails".to_owned(), details.into());
    }
    if let Some(log) = log {
        body.insert("LogResult".to_owned(), log.into());
    }
    message("InvokeComplete", "application/json", Value::Object(body).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_how_long_it_is_and_sums_up() {
        let message = chunk(b"hello");
        let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!(word(0) as usize, message.len());
        assert_eq!(word(8), crc32fast::hash(&message[..8]));
        let end = message.len() - 4;
        assert_eq!(word(end), crc32fast::hash(&message[..end]));
        let body = 12 + word(4) as usize;
        assert_eq!(&message[body..end], b"hello");
        assert_eq!(&message[12..26], b"\x0d:message-type");
    }

    #[test]
    fn the_end_says_what_went_wrong() {
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        assert!(text(complete(None, None)).contains("{}"));
        let failed = text(complete(Some(("Unhandled", "it broke")), Some("bG9n")));
        assert!(failed.contains(r#""ErrorCode":"Unhandled""#) && failed.contains(r#""LogResult":"bG9n""#));
    }
}
