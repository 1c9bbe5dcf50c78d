//! Which headers cross the gateway.
//!
//! Headers that belong to one connection (hop by hop, RFC 9110 §7.6.1, and those that `Connection` names) are
//! neither passed to functions nor taken from them. What a function sends is vetted byte by byte, so that it
//! cannot write a second answer into its first.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::limits::Limits;

/// Why a function's header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHeader(pub(crate) &'static str);

/// The client's headers as a function may see them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded<'a> {
    headers: &'a HeaderMap,
    /// Whether `Connection` names headers of its own; hardly ever.
    nominated: bool,
    /// Whether `tracestate` goes along: it means nothing without the `traceparent` that it came with.
    tracestate: bool,
}

impl<'a> Forwarded<'a> {
    pub(crate) fn new(headers: &'a HeaderMap, tracestate: bool) -> Self {
        let nominated = headers.get_all(header::CONNECTION).iter().any(|value| {
            tokens(value).any(|token| {
                !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive")
            })
        });
        Self { headers, nominated, tracestate }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers
            .iter()
            .filter(move |(name, _)| self.passes(name))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn passes(&self, name: &HeaderName) -> bool {
        let held_back = is_hop_by_hop(name)
            || *name == header::EXPECT
            || name.as_str() == "traceparent"
            || (!self.tracestate && name.as_str() == "tracestate")
            || (self.nominated && self.is_nominated(name));
        !held_back
    }

    fn is_nominated(&self, name: &HeaderName) -> bool {
        let named = |value: &HeaderValue| {
            tokens(value).any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
        };
        self.headers.get_all(header::CONNECTION).iter().any(named)
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::TE
        || *name == header::TRAILER
        || *name == header::UPGRADE
        || *name == header::PROXY_AUTHENTICATE
        || *name == header::PROXY_AUTHORIZATION
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Copies a function's headers to where the answer's are; those of the connection, and the length, which the
/// gateway counts itself, are left out.
pub(crate) fn vet<'a>(
    from: impl Iterator<Item = (&'a str, &'a [u8])>,
    to: &mut HeaderMap,
) -> Result<(), BadHeader> {
    let mut bytes = 0usize;
    for (name, value) in from {
        bytes = bytes.saturating_add(name.len() + value.len());
        if bytes > Limits::REPLY_HEAD_BYTES || to.len() >= Limits::REPLY_HEADERS {
            return Err(BadHeader("too many headers"));
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadHeader("a header's name"))?;
        if is_hop_by_hop(&name) || name == header::CONTENT_LENGTH {
            continue;
        }
        let value = HeaderValue::from_bytes(value).map_err(|_| BadHeader("a header's value"))?;
        to.append(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn headers_of_the_connection_stay_at_the_gateway() {
        let headers = map(&[
            ("host", "x"),
            ("connection", "keep-alive, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
            ("expect", "100-continue"),
            ("traceparent", "x"),
            ("tracestate", "x"),
            ("accept", "a"),
            ("accept", "b"),
        ]);
        let passed: Vec<_> = Forwarded::new(&headers, false).iter().collect();
        assert_eq!(passed, [("host", &b"x"[..]), ("accept", b"a"), ("accept", b"b")]);
        assert!(Forwarded::new(&headers, true).iter().any(|(name, _)| name == "tracestate"));
    }

    #[test]
    fn a_functions_headers_are_vetted() {
        let mut to = HeaderMap::new();
        let from = [
            ("Content-Type", &b"text/plain"[..]),
            ("content-length", b"9999"),
            ("Connection", b"close"),
            ("transfer-encoding", b"chunked"),
            ("set-cookie", b"a"),
            ("set-cookie", b"b"),
        ];
        assert_eq!(vet(from.into_iter(), &mut to), Ok(()));
        assert_eq!(to, map(&[("content-type", "text/plain"), ("set-cookie", "a"), ("set-cookie", "b")]));
        for bad in [
            ("x", &b"a\r\nset-cookie: b"[..]),
            ("x", b"a\nb"),
            ("x", b"a\rb"),
            ("x", b"a\0b"),
            ("x\r\ny", b"a"),
            ("x y", b"a"),
            ("", b"a"),
            ("x:", b"a"),
        ] {
            assert!(vet(std::iter::once(bad), &mut HeaderMap::new()).is_err(), "{bad:?}");
        }
        let many = std::iter::repeat_n(("x", &b"y"[..]), Limits::REPLY_HEADERS + 1);
        assert!(vet(many, &mut HeaderMap::new()).is_err());
        let long = [b'y'; Limits::REPLY_HEAD_BYTES];
        assert!(vet(std::iter::once(("x", &long[..])), &mut HeaderMap::new()).is_err());
    }
}
