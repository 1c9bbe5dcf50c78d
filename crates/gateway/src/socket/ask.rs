//! The handshake: whether a request asks for a WebSocket, and the head of the answer that grants it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version, request};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::headers::tokens;
use crate::refusal::Refusal;

/// Characters of a key: sixteen bytes in base64.
const KEY_CHARS: usize = 24;

/// What the client wants its wish to be answered with.
pub(crate) struct Ask {
    accept: HeaderValue,
}

impl Ask {
    /// What a request with an `Upgrade` asks for; `None` where that is no WebSocket.
    pub(crate) fn of(parts: &request::Parts) -> Result<Option<Ask>, Refusal> {
        let headers = &parts.headers;
        let names = |header: HeaderName, word: &[u8]| {
            headers.get_all(header).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(word))
        };
        let asks = parts.version == Version::HTTP_11
            && names(header::UPGRADE, b"websocket")
            && names(header::CONNECTION, b"upgrade");
        if !asks {
            return Ok(None);
        }
        if parts.method != Method::GET {
            return Err(Refusal::malformed("a WebSocket begins with GET"));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refusal::socket_version());
        }
        let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
        let (key, more) = (keys.next().map(HeaderValue::as_bytes), keys.next());
        let (Some(key), None) = (key.filter(|key| is_key(key)), more) else {
            return Err(Refusal::malformed("Sec-WebSocket-Key is sixteen bytes in base64, once"));
        };
        let accept = HeaderValue::try_from(derive_accept_key(key));
        Ok(accept.ok().map(|accept| Ask { accept }))
    }
}

fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_at_checked(KEY_CHARS - 2) else { return false };
    digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Makes `headers`, those of the function, the head of an answer that grants it.
pub(crate) fn accept(ask: Ask, headers: &mut HeaderMap) -> StatusCode {
    // The gateway speaks no extension, whatever the function says.
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, ask.accept);
    StatusCode::SWITCHING_PROTOCOLS
}
