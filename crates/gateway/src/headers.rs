//! Which headers cross the gateway.
//!
//! Headers that belong to one connection (hop by hop, RFC 9110 §7.6.1, and those that `Connection` names) are
//! neither passed to functions nor taken from them. What a function sends is vetted byte by byte, so that it
//! cannot write a second answer into its first.

use baton_flow::RECEIPT_HEADER;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::limits::Limits;
use crate::trace::Traceparent;

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

/// What the gateway itself wants to know of the client's headers, found out in one pass over them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// How many `Host` headers there are.
    pub(crate) hosts: u32,
    /// Whether `Content-Length` is there.
    pub(crate) measured: bool,
    /// Whether the client asks before it sends its body.
    pub(crate) expects: bool,
    /// Whether the client would rather read JSON than text: the one that `Accept` names first.
    pub(crate) json: bool,
    /// Whether the client would rather speak another protocol.
    pub(crate) upgrades: bool,
    /// The client's `traceparent` if there is one only, and that well-formed.
    pub(crate) trace: Option<Traceparent>,
    traces: u32,
    nominated: bool,
}

impl Facts {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut facts = Self::default();
        for (name, value) in headers {
            if *name == header::HOST {
                facts.hosts += 1;
            } else if *name == header::ACCEPT {
                facts.json |= prefers_json(value.as_bytes());
            } else if *name == header::CONNECTION {
                facts.nominated |= nominates(value);
            } else if *name == header::CONTENT_LENGTH {
                facts.measured = true;
            } else if *name == header::UPGRADE {
                facts.upgrades = true;
            } else if *name == header::EXPECT {
                facts.expects = true;
            } else if name.as_str() == "traceparent" {
                facts.traces += 1;
                facts.trace = Traceparent::parse(value.as_bytes()).filter(|_| facts.traces == 1);
            }
        }
        facts
    }
}

fn prefers_json(accept: &[u8]) -> bool {
    let Ok(accept) = std::str::from_utf8(accept) else { return false };
    match (accept.find("json"), accept.find("text/")) {
        (Some(json), Some(text)) => json < text,
        (json, _) => json.is_some(),
    }
}

fn nominates(value: &HeaderValue) -> bool {
    tokens(value)
        .any(|token| !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive"))
}

impl<'a> Forwarded<'a> {
    pub(crate) fn new(headers: &'a HeaderMap, facts: &Facts) -> Self {
        Self { headers, nominated: facts.nominated, tracestate: facts.trace.is_some() }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers
            .iter()
            .filter(move |(name, _)| self.passes(name))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn passes(&self, name: &HeaderName) -> bool {
        let held_back = is_hop_by_hop(name)
            // The seam takes this one out.
            || (is_ours(name.as_str()) && name.as_str() != RECEIPT_HEADER)
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

pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether only the node itself may say it: nobody outside can, and no function.
pub(crate) fn is_ours(name: &str) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("x-baton-"))
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

/// The headers of another server's answer that are not of its connection.
pub(crate) fn of_answer(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    let nominated: Vec<&[u8]> = headers.get_all(header::CONNECTION).iter().flat_map(tokens).collect();
    let passes = move |name: &HeaderName| {
        let is_nominated = nominated.iter().any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()));
        !is_nominated && !is_hop_by_hop(name)
    };
    let all = headers.iter().filter(move |(name, _)| passes(name));
    all.map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// As [`vet`], for a request to another server: without what `Connection` names, and without what the client itself says.
pub(crate) fn vet_request<'a>(
    from: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
) -> Result<HeaderMap, BadHeader> {
    let mut to = HeaderMap::new();
    vet(from.clone(), &mut to)?;
    let connection = from.filter(|(name, _)| name.eq_ignore_ascii_case(header::CONNECTION.as_str()));
    for token in connection.flat_map(|(_, value)| value.split(|byte| *byte == b',')) {
        if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
            to.remove(name);
        }
    }
    to.remove(header::HOST);
    to.remove(header::EXPECT);
    Ok(to)
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
        let facts = Facts::of(&headers);
        let passed: Vec<_> = Forwarded::new(&headers, &facts).iter().collect();
        assert_eq!(passed, [("host", &b"x"[..]), ("accept", b"a"), ("accept", b"b")]);
        assert!(facts.expects && facts.hosts == 1 && facts.trace.is_none() && !facts.measured);
    }

    #[test]
    fn a_trace_is_taken_along_if_it_is_the_only_one() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let one = map(&[("traceparent", trace), ("tracestate", "a=b")]);
        let facts = Facts::of(&one);
        assert_eq!(facts.trace.unwrap().as_str(), trace);
        assert_eq!(Forwarded::new(&one, &facts).iter().collect::<Vec<_>>(), [("tracestate", &b"a=b"[..])]);
        assert!(Facts::of(&map(&[("traceparent", trace), ("traceparent", trace)])).trace.is_none());
    }

    #[test]
    fn accept_decides_on_json() {
        let check = |accept: &'static str, expect: bool| {
            assert_eq!(Facts::of(&map(&[("accept", accept)])).json, expect, "{accept}");
        };
        check("application/json", true);
        check("application/problem+json, */*", true);
        check("text/html,application/json;q=0.1", false);
        check("application/json, text/plain", true);
        check("*/*", false);
    }

    #[test]
    fn requests_and_answers_of_others_lose_what_is_of_a_connection() {
        let from = [
            ("Host", &b"elsewhere"[..]),
            ("X-Secret", b"1"),
            ("connection", b"close, x-secret"),
            ("expect", b"100-continue"),
            ("content-length", b"7"),
            ("transfer-encoding", b"chunked"),
            ("te", b"trailers"),
            ("upgrade", b"h2c"),
            ("proxy-authorization", b"x"),
            ("accept", b"*/*"),
        ];
        assert_eq!(vet_request(from.into_iter()), Ok(map(&[("accept", "*/*")])));
        assert!(vet_request([("x", &b"a\r\nhost: b"[..])].into_iter()).is_err());
        let answer = map(&[
            ("connection", "x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ]);
        let passed: Vec<_> = of_answer(&answer).collect();
        assert_eq!(passed, [("content-length", &b"3"[..]), ("set-cookie", b"a"), ("set-cookie", b"b")]);
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
