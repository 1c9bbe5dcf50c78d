//! Answers that the gateway gives in place of a function: the one table from failures to statuses, and their text.

use std::borrow::Cow;
use std::fmt::Write as _;

use baton_flow::InvokeError;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use crate::limits::RETRY_AFTER_SECONDS;

/// Why a request gets no answer of a function's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: Cow<'static, str>,
    /// The same request may succeed later: `Retry-After` says so.
    pub(crate) retry: bool,
    /// The methods that the path answers.
    pub(crate) allow: Option<HeaderValue>,
    /// Nothing more can be made of the connection.
    pub(crate) close: bool,
    /// Seconds after which it may succeed, where more is known than that it may.
    pub(crate) after: Option<u32>,
    /// What the client has to show.
    pub(crate) challenge: Option<&'static str>,
    /// The version of WebSockets is to be said.
    pub(crate) socket_version: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            retry: false,
            allow: None,
            close: false,
            after: None,
            challenge: None,
            socket_version: false,
        }
    }

    /// A request that HTTP forbids: where the next one would begin is anyone's guess.
    pub(crate) fn malformed(message: &'static str) -> Self {
        Self { close: true, ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no route answers this path; `baton ps` lists what is deployed, `[[routes]]` in baton.toml adds one",
        )
    }

    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let message =
            format!("this path answers {allow} only; `methods` of its route in baton.toml adds more");
        let allow = HeaderValue::from_str(allow).ok();
        Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, message) }
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let message = format!(
            "the body is larger than the {limit} bytes that this app takes; send less, or raise `pool.size`"
        );
        Self { close: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, message) }
    }

    pub(crate) fn slow_body() -> Self {
        let message = "the body came too slowly; send it again";
        Self { close: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, message) }
    }

    /// A WebSocket of another version than there is.
    pub(crate) fn socket_version() -> Self {
        let message = "WebSockets are of version 13 here; ask with Sec-WebSocket-Version: 13";
        Self { socket_version: true, ..Self::new(StatusCode::UPGRADE_REQUIRED, message) }
    }

    pub(crate) fn bad_reply() -> Self {
        Self::from(InvokeError::BadReply { what: "its answer is no HTTP" })
    }

    /// The headers of the answer. The body is [`Refusal::body`]'s.
    pub(crate) fn write_headers(&self, json: bool, to: &mut HeaderMap) {
        let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
        to.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        to.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(challenge) = self.challenge {
            to.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.after {
            to.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        } else if self.retry {
            to.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if self.socket_version {
            to.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Some(allow) = &self.allow {
            to.insert(header::ALLOW, allow.clone());
        }
    }

    pub(crate) fn body(&self, json: bool) -> Bytes {
        let text = &self.message;
        if json {
            let mut body = String::with_capacity(text.len() + 16);
            body.push_str("{\"error\":\"");
            escape(text, &mut body);
            body.push_str("\"}\n");
            return body.into();
        }
        format!("{text}\n").into()
    }
}

impl From<InvokeError> for Refusal {
    fn from(error: InvokeError) -> Self {
        let (code, retry) = (error.status(), may_succeed_later(&error));
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // What killed a replica, or what exactly it sent, is the operator's to know, not the client's.
        let message: Cow<'static, str> = match error {
            InvokeError::Refused(refused) => {
                let baton_flow::Refused { message, retry_after: after, challenge, .. } = *refused;
                return Self { after, challenge, retry: after.is_some(), ..Self::new(status, message) };
            }
            InvokeError::Unknown => return Self::no_route(),
            InvokeError::TooLarge { limit } => return Self::too_large(limit),
            InvokeError::PoolFull => "the app's memory is full at the moment; send the request again".into(),
            InvokeError::QueueFull => "too many requests wait for this function; send it again later".into(),
            InvokeError::DeadlineExceeded { after } => {
                format!("the function did not answer within {after:?}; `timeout` in baton.toml gives it more")
                    .into()
            }
            InvokeError::NoReplica { crash_looping: true } => {
                "the function dies again and again; `baton logs` says why".into()
            }
            InvokeError::NoReplica { crash_looping: false } => {
                "the function is being started; send the request again".into()
            }
            InvokeError::ReplicaDied { function, .. } => {
                format!("function {function} died at this request; `baton logs` says why").into()
            }
            InvokeError::NoNode { function } => {
                format!("no node that runs function {function} can be reached; send the request again").into()
            }
            InvokeError::NodeLost { function, .. } => format!(
                "the node that had this request for function {function} is lost; send it again if doing it twice does no harm"
            )
            .into(),
            InvokeError::NotKept { .. } => "the node's disk has no room for this request; send it again later".into(),
            InvokeError::BadReply { .. } => "the function answered nonsense; `baton logs` says more".into(),
            InvokeError::Function { message, .. } => message.into(),
            InvokeError::HeadTooLarge => {
                "the request's headers are too large; send fewer or shorter ones".into()
            }
            InvokeError::Draining => "the node is shutting down; send the request again".into(),
        };
        Self { retry, ..Self::new(status, message) }
    }
}

/// Whether the same request may succeed later.
fn may_succeed_later(error: &InvokeError) -> bool {
    match error {
        InvokeError::Refused(refused) => refused.retry_after.is_some(),
        InvokeError::QueueFull
        | InvokeError::NodeLost { .. }
        | InvokeError::NotKept { .. }
        | InvokeError::PoolFull
        | InvokeError::NoReplica { .. }
        | InvokeError::NoNode { .. }
        | InvokeError::Draining => true,
        InvokeError::Unknown
        | InvokeError::TooLarge { .. }
        | InvokeError::HeadTooLarge
        | InvokeError::ReplicaDied { .. }
        | InvokeError::BadReply { .. }
        | InvokeError::DeadlineExceeded { .. }
        | InvokeError::Function { .. } => false,
    }
}

fn escape(text: &str, to: &mut String) {
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(to, "\\u{:04x}", u32::from(c));
            }
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Every variant with what its client sees. The match makes the compiler ask for a row when one is added.
    fn rows() -> Vec<(InvokeError, u16, bool)> {
        let function = |status| InvokeError::Function { status, message: "no".into() };
        let refused = |status, retry_after| {
            let (message, challenge) = ("no".into(), None);
            InvokeError::Refused(Box::new(baton_flow::Refused { status, message, retry_after, challenge }))
        };
        let rows = vec![
            (InvokeError::Unknown, 404, false),
            (InvokeError::TooLarge { limit: 7 }, 413, false),
            (InvokeError::PoolFull, 503, true),
            (InvokeError::QueueFull, 429, true),
            (InvokeError::DeadlineExceeded { after: Duration::from_secs(2) }, 504, false),
            (InvokeError::NoReplica { crash_looping: true }, 503, true),
            (InvokeError::NoReplica { crash_looping: false }, 503, true),
            (
                InvokeError::ReplicaDied { function: "cart".into(), how: "signal 11 at /secret".into() },
                502,
                false,
            ),
            (InvokeError::BadReply { what: "a secret" }, 502, false),
            (function(404), 404, false),
            (function(422), 422, false),
            (function(599), 599, false),
            (function(200), 500, false),
            (function(0), 500, false),
            (function(1000), 500, false),
            (InvokeError::HeadTooLarge, 431, false),
            (InvokeError::Draining, 503, true),
            (InvokeError::NotKept { why: "secret" }, 507, true),
            (refused(403, None), 403, false),
            (refused(429, Some(7)), 429, true),
            (InvokeError::NoNode { function: "cart".into() }, 503, true),
            (InvokeError::NodeLost { function: "cart".into(), node: "secret".into() }, 502, true),
        ];
        for (error, ..) in &rows {
            match error {
                InvokeError::Unknown
                | InvokeError::TooLarge { .. }
                | InvokeError::PoolFull
                | InvokeError::QueueFull
                | InvokeError::DeadlineExceeded { .. }
                | InvokeError::NoReplica { .. }
                | InvokeError::ReplicaDied { .. }
                | InvokeError::BadReply { .. }
                | InvokeError::Function { .. }
                | InvokeError::HeadTooLarge
                | InvokeError::NoNode { .. }
                | InvokeError::NodeLost { .. }
                | InvokeError::NotKept { .. }
                | InvokeError::Refused(_)
                | InvokeError::Draining => {}
            }
        }
        rows
    }

    #[test]
    fn every_failure_has_its_status() {
        for (error, status, retry) in rows() {
            let refusal = Refusal::from(error.clone());
            assert_eq!((refusal.status.as_u16(), refusal.retry), (status, retry), "{error:?}");
            let mut headers = HeaderMap::new();
            refusal.write_headers(false, &mut headers);
            assert_eq!(headers.contains_key(header::RETRY_AFTER), retry, "{error:?}");
            assert!(!refusal.message.is_empty() && !refusal.message.contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn bodies_are_text_or_escaped_json() {
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "a \"b\"\\\n\u{1}é");
        assert_eq!(refusal.body(false), "a \"b\"\\\n\u{1}é\n");
        assert_eq!(refusal.body(true), "{\"error\":\"a \\\"b\\\"\\\\\\n\\u0001é\"}\n");
    }
}
