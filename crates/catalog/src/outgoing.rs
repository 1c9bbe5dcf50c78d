//! The hosts that a function may send requests to: what `network` in the manifest says, and whether it covers a request.

use std::net::Ipv6Addr;

use crate::limits::HOST_BYTES_MAX;

/// One entry of `network`: a name or an address, and a port or the one that the scheme has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<'a> {
    /// Without the brackets of an IPv6 address.
    host: &'a str,
    port: Option<u16>,
}

/// Takes `host`, `host:port`, `[v6]` or `[v6]:port` apart. Names are not looked up.
fn entry(text: &str) -> Option<Entry<'_>> {
    if text.len() > HOST_BYTES_MAX {
        return None;
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, rest) = text.split_at(end);
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || !host.chars().all(fits) {
                return None;
            }
            (host, rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        // The parser of numbers takes a sign, too.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|port| *port != 0)?)
        }
        None if rest.is_empty() => None,
        _ => return None,
    };
    Some(Entry { host, port })
}

/// Whether a text may stand in `network`.
pub(crate) fn is_host(text: &str) -> bool {
    entry(text).is_some()
}

/// Whether a text may stand in `network` of a function that opens connections itself: a host and a port, and `*.` in front of a
/// name for all that end with it.
pub(crate) fn is_connection(text: &str) -> bool {
    let host = match text.strip_prefix("*.") {
        // An address has no names below it.
        Some(host) if host.starts_with(|first: char| first.is_ascii_alphabetic()) && !host.contains("..") => {
            host
        }
        Some(_) => return false,
        None => text,
    };
    text.len() <= HOST_BYTES_MAX && entry(host).is_some_and(|entry| entry.port.is_some())
}

/// The host and port of an entry that names one host: `*.example.org:443` names none.
#[must_use]
pub fn connection(text: &str) -> Option<(&str, u16)> {
    entry(text).and_then(|entry| Some((entry.host, entry.port?)))
}

/// Whether `network` of a function that opens connections itself names a host and port. `host` is a name or an address, an
/// IPv6 address in brackets or without; `*.example.org` covers all names below `example.org`, and not that itself.
///
/// Names are compared without regard to case and to one dot at the end; nothing is looked up.
#[must_use]
pub fn connects(network: &[String], host: &str, port: u16) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    network.iter().any(|text| match text.strip_prefix("*.") {
        None => covers(std::slice::from_ref(text), host, port, 0),
        Some(text) => entry(text).is_some_and(|entry| entry.port == Some(port) && is_below(host, entry.host)),
    })
}

/// Whether `host` is a name below `domain`.
fn is_below(host: &str, domain: &str) -> bool {
    let Some(at) = host.len().checked_sub(domain.len()) else { return false };
    let (Some(below), Some(end)) = (host.get(..at), host.get(at..)) else { return false };
    below.len() > 1 && below.ends_with('.') && !below.starts_with('.') && end.eq_ignore_ascii_case(domain)
}

/// Whether `network` names the host and port of a request. `host` is as a URL has it, an IPv6 address in brackets or without;
/// `usual` is the port of the request's scheme, for entries that name none.
///
/// Names are compared letter by letter, without regard to case; addresses as what is written: nothing is looked up, so that an
/// entry that is a name does not cover the address behind it.
#[must_use]
pub fn covers(network: &[String], host: &str, port: u16, usual: u16) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = host.parse::<Ipv6Addr>().ok();
    network.iter().filter_map(|text| entry(text)).any(|entry| {
        let is_host = match address {
            Some(address) => entry.host.parse() == Ok(address),
            None => entry.host.eq_ignore_ascii_case(host),
        };
        is_host && entry.port.unwrap_or(usual) == port
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTPS: u16 = 443;
    const HTTP: u16 = 80;

    #[track_caller]
    fn check(network: &[&str], (host, port, usual): (&str, u16, u16), expect: bool) {
        let network: Vec<String> = network.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(covers(&network, host, port, usual), expect, "{host}:{port} in {network:?}");
    }

    #[test]
    fn an_entry_covers_its_host_and_port_alone() {
        let network = ["api.example.com", "127.0.0.1:9000", "[::1]:9000", "other.example:443"];
        check(&network, ("api.example.com", 443, HTTPS), true);
        check(&network, ("API.Example.COM", 443, HTTPS), true);
        check(&network, ("api.example.com", 80, HTTP), true);
        check(&network, ("api.example.com", 8443, HTTPS), false);
        check(&network, ("api.example.com", 443, HTTP), false);
        check(&network, ("127.0.0.1", 9000, HTTP), true);
        check(&network, ("127.0.0.1", 80, HTTP), false);
        check(&network, ("[::1]", 9000, HTTP), true);
        check(&network, ("[0:0:0:0:0:0:0:1]", 9000, HTTP), true);
        check(&network, ("[::2]", 9000, HTTP), false);
        check(&network, ("other.example", 443, HTTP), true);
        check(&network, ("other.example", 80, HTTP), false);
        check(&[], ("api.example.com", 443, HTTPS), false);
    }

    #[test]
    fn what_only_resembles_an_entry_is_not_covered() {
        let network = ["example.com", "127.0.0.1:80"];
        for host in ["www.example.com", "example.com.", "xexample.com", "example.co", "example.com.evil", ""]
        {
            check(&network, (host, 443, HTTPS), false);
        }
        for host in ["localhost", "127.1", "2130706433", "0x7f.0.0.1", "127.0.0.01", "[::ffff:127.0.0.1]"] {
            check(&network, (host, 80, HTTP), false);
        }
    }

    #[test]
    fn a_wildcard_covers_names_below_it_alone() {
        let network = ["*.example.org:443".to_owned(), "db.internal:5432".to_owned(), "[::1]:80".to_owned()];
        for (host, port, expect) in [
            ("a.example.org", 443, true),
            ("a.b.EXAMPLE.org.", 443, true),
            ("a.example.org", 80, false),
            ("example.org", 443, false),
            (".example.org", 443, false),
            ("badexample.org", 443, false),
            ("a.example.org.evil", 443, false),
            ("ä.example.org", 443, true),
            ("db.internal", 5432, true),
            ("DB.internal.", 5432, true),
            ("x.db.internal", 5432, false),
            ("db.internal", 443, false),
            ("::1", 80, true),
            ("[::1]", 80, true),
            ("", 443, false),
        ] {
            assert_eq!(connects(&network, host, port), expect, "{host}:{port}");
        }
        for good in ["a:1", "*.example.org:443", "10.0.0.1:5432", "[::1]:80"] {
            assert!(is_connection(good), "{good}");
        }
        for bad in [
            "a",
            "*:443",
            "*.:443",
            "*.example.org",
            "*.1.2.3:80",
            "*.*.a:1",
            "a.*.b:1",
            "*.a..b:1",
            "**.a:1",
            "",
        ] {
            assert!(!is_connection(bad), "{bad}");
        }
    }

    #[test]
    fn texts_that_are_no_hosts_are_refused() {
        for good in ["a", "a:1", "a_b-c.d:65535", "10.0.0.1", "[::1]", "[fe80::1]:8080"] {
            assert!(is_host(good), "{good}");
        }
        let long = "a".repeat(HOST_BYTES_MAX + 1);
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a b",
            "http://a",
            "a/b",
            "a@b",
            "a:b:1",
            "::1",
            "[::1",
            "[::1]80",
            "[a]",
            "[127.0.0.1]",
            "*.example.com",
            "ä",
            &long,
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
