//! From what a function wrote to a request that can be sent, if its manifest allows that.
//!
//! Everything here is a foreign text until it has gone through the types of `http`: what comes out is one request, whatever
//! stands in it.

use baton_catalog::covers;
use baton_flow::{FetchError, Outgoing};
use http::{HeaderMap, Method, Uri};

use crate::headers::vet_request;

/// A request that may be sent, its body apart.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
}

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) uri: Uri,
    /// Scheme, host and port, for people.
    pub(super) origin: String,
    host: String,
    port: u16,
    /// The port of the scheme.
    usual: u16,
}

impl Asked {
    /// What a function asks for.
    ///
    /// # Errors
    /// [`FetchError::Malformed`], [`FetchError::Denied`].
    pub(super) fn of(outgoing: &Outgoing) -> Result<Asked, FetchError> {
        let malformed = |what| FetchError::Malformed { what };
        let target = Target::read(outgoing.url(), outgoing.query()).map_err(malformed)?;
        if !covers(outgoing.network(), &target.host, target.port, target.usual) {
            let function = outgoing.function().to_owned();
            return Err(FetchError::Denied { function, host: target.entry() });
        }
        let method = method(outgoing.method()).map_err(malformed)?;
        let headers = vet_request(outgoing.headers()).map_err(|bad| malformed(bad.0))?;
        Ok(Asked { method, target, headers })
    }
}

/// The method; a request that names none reads something.
fn method(name: Option<&[u8]>) -> Result<Method, &'static str> {
    let Some(name) = name else { return Ok(Method::GET) };
    let method = Method::from_bytes(name).map_err(|_| "its method is none")?;
    if method == Method::CONNECT {
        return Err("CONNECT is not for functions");
    }
    Ok(method)
}

impl Target {
    /// Takes a URL apart, and adds a query that came beside it.
    fn read(url: &[u8], query: Option<&[u8]>) -> Result<Target, &'static str> {
        let is_plain = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_graphic);
        if url.is_empty() {
            return Err("it has no URL");
        }
        if !is_plain(url) || !query.is_none_or(is_plain) {
            return Err("its URL has characters that must be percent-encoded");
        }
        let mut text = url.split(|byte| *byte == b'#').next().unwrap_or_default().to_vec();
        if let Some(query) = query {
            if text.contains(&b'?') {
                return Err("it has two queries");
            }
            if query.contains(&b'#') {
                return Err("its URL has characters that must be percent-encoded");
            }
            text.push(b'?');
            text.extend_from_slice(query);
        }
        let uri = Uri::try_from(text).map_err(|_| "its URL is none")?;
        let usual = match uri.scheme_str() {
            Some("https") => 443,
            Some("http") => 80,
            _ => return Err("its URL begins neither with http:// nor with https://"),
        };
        let authority = uri.authority().ok_or("its URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("its URL has a user in front of the host; use an authorization header");
        }
        let host = authority.host().to_owned();
        // What stands behind the host is a port or nothing: a number that is none would be left out silently.
        let rest = authority.as_str().get(host.len()..).unwrap_or_default();
        let port = match (rest, authority.port_u16()) {
            ("", _) => usual,
            (_, Some(port)) if port != 0 => port,
            _ => return Err("the port in its URL is none"),
        };
        if host.is_empty() {
            return Err("its URL has no host");
        }
        let origin = format!("{}://{}", uri.scheme_str().unwrap_or_default(), authority);
        Ok(Target { host, port, usual, origin, uri })
    }

    /// What would have to stand in `network`.
    fn entry(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn read(url: &str) -> (String, u16, String) {
        let target = Target::read(url.as_bytes(), None).unwrap();
        (target.host, target.port, target.uri.to_string())
    }

    #[test]
    fn urls_are_taken_apart() {
        let owned = |host: &str, port, uri: &str| (host.to_owned(), port, uri.to_owned());
        assert_eq!(
            read("https://api.example.com/v1/x?a=b#part"),
            owned("api.example.com", 443, "https://api.example.com/v1/x?a=b")
        );
        assert_eq!(read("http://127.0.0.1:9000"), owned("127.0.0.1", 9000, "http://127.0.0.1:9000/"));
        assert_eq!(read("HTTP://[::1]:80/"), owned("[::1]", 80, "http://[::1]:80/"));
        let both = Target::read(b"https://a/x", Some(b"q=1")).unwrap();
        assert_eq!(both.uri.to_string(), "https://a/x?q=1");
    }

    #[test]
    fn what_is_no_url_of_a_host_is_refused() {
        for bad in [
            "",
            "/x",
            "a",
            "a:80",
            "ftp://a/",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "https://:443/",
            "http://u:p@a/",
            "http://a:0/",
            "http://a:/",
            "http://a:65536/",
            "http://a:x/",
            "http://a b/",
            "http://a/ b",
            "http://a/\r\nx",
            "http://a/\u{e4}",
            "http://[::1/",
            "data:text/plain,x",
        ] {
            assert!(Target::read(bad.as_bytes(), None).is_err(), "{bad:?}");
        }
        assert!(Target::read(b"http://a/?x", Some(b"y")).is_err());
        assert!(Target::read(b"http://a/", Some(b"y\r\nz")).is_err());
        assert!(Target::read(b"http://a/", Some(b"y#z")).is_err());
    }

    #[test]
    fn methods_are_checked() {
        assert_eq!(method(None), Ok(Method::GET));
        assert_eq!(method(Some(b"PURGE")).unwrap().as_str(), "PURGE");
        for bad in [&b""[..], b"CONNECT", b"GET /", b"G\r\nT", b"G\0T"] {
            assert!(method(Some(bad)).is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// Whatever a function writes: either it is refused, or what is sent has one host, which is the one that was checked.
        #[test]
        fn what_passes_goes_where_it_was_checked_for(url in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "https?://[a-z@:#?/\\[\\]0-9.%\\\\-]{0,40}".prop_map(String::into_bytes),
        ]) {
            let Ok(target) = Target::read(&url, None) else { return Ok(()) };
            let authority = target.uri.authority().unwrap();
            prop_assert_eq!(authority.host(), target.host.as_str());
            prop_assert_eq!(target.uri.port_u16().unwrap_or(target.usual), target.port);
            prop_assert!(!authority.as_str().contains(['@', '/', '\\', ' ', '\r', '\n']));
            let path = target.uri.path_and_query().unwrap().as_str();
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
            // Read again, it is the same place.
            let again = Target::read(target.uri.to_string().as_bytes(), None).unwrap();
            prop_assert_eq!((again.host, again.port), (target.host, target.port));
        }

        #[test]
        fn headers_that_pass_are_lines_of_their_own(
            name in prop::collection::vec(any::<u8>(), 0..12),
            value in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let Ok(name) = std::str::from_utf8(&name) else { return Ok(()) };
            let Ok(headers) = vet_request([(name, value.as_slice())].into_iter()) else { return Ok(()) };
            for (name, value) in &headers {
                prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
            }
        }
    }
}
