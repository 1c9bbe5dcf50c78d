//! Requests between two versions of an app: what is wanted, and how each request finds its side.

use std::cell::Cell;
use std::rc::Rc;

use baton_abi::head::{Field, records};
use baton_catalog::{Percent, Sticky};
use baton_placement::{Share, Standing, place, turn};

use crate::app::App;
use crate::invoke::Head;

/// Which versions of an app answer its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The app.
    pub app: String,
    /// The version that answers what no other one does.
    pub leading: u64,
    /// The one beside it.
    pub next: Option<Next>,
}

impl Traffic {
    /// One version answers everything.
    #[must_use]
    pub fn all_to(app: impl Into<String>, version: u64) -> Traffic {
        Traffic { app: app.into(), leading: version, next: None }
    }
}

/// A version beside the leading one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its number.
    pub version: u64,
    /// Its part of the requests.
    pub share: Percent,
    /// By what one who asks again is known; each request is dealt by itself without it.
    pub sticky: Option<Sticky>,
}

/// A split as requests meet it.
pub(crate) struct Split {
    pub(crate) app: Rc<App>,
    share: Share,
    sticky: Option<Sticky>,
    /// Requests so far of those who are not known.
    turns: Cell<u64>,
}

impl Split {
    pub(crate) fn new(app: Rc<App>, next: &Next) -> Split {
        let share = Share::new(next.share.hundredths()).unwrap_or(Share::NONE);
        Split { app, share, sticky: next.sticky.clone(), turns: Cell::new(0) }
    }

    pub(crate) fn share(&self) -> Share {
        self.share
    }

    /// Whether the newer version answers.
    pub(crate) fn takes(&self, head: &Head) -> bool {
        let version = self.app.version;
        let known = match &self.sticky {
            None => None,
            Some(Sticky::Header(name)) => header(head, name).next().map(|value| place(value, version)),
            Some(Sticky::Cookie(name)) => {
                let mut found = header(head, "cookie").filter_map(|value| cookie(value, name.as_bytes()));
                found.next().map(|value| place(value, version))
            }
            Some(Sticky::Client) => head.client.address.map(|client| client_place(client, version)),
        };
        let at = known.unwrap_or_else(|| {
            let number = self.turns.get();
            self.turns.set(number.wrapping_add(1));
            turn(number)
        });
        self.share.takes(at)
    }
}

fn client_place(client: std::net::IpAddr, version: u64) -> Standing {
    // The same client, whether its address came as IPv4 or as IPv4 within IPv6.
    match client.to_canonical() {
        std::net::IpAddr::V4(address) => place(&address.octets(), version),
        std::net::IpAddr::V6(address) => place(&address.octets(), version),
    }
}

fn header<'a>(head: &'a Head, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let found = records(&head.bytes).map_while(Result::ok);
    found
        .filter(move |record| record.field == Field::Header && record.name == name)
        .map(|record| record.value)
}

/// The value of one cookie in a `cookie` header.
fn cookie<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let pairs = header.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let value = |pair: &'a [u8]| pair.strip_prefix(name)?.strip_prefix(b"=");
    pairs.filter_map(value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let check = |header: &str, expect: Option<&str>| {
            assert_eq!(cookie(header.as_bytes(), b"sid"), expect.map(str::as_bytes), "{header}");
        };
        check("sid=abc", Some("abc"));
        check("a=1; sid=abc; b=2", Some("abc"));
        check("xsid=1;sid=", Some(""));
        check("sidx=1; a=sid=2", None);
        check("", None);
    }

    #[test]
    fn headers_are_found_by_their_name_and_nothing_else_is() {
        let mut head = Head::new();
        head.add(Field::Param, "x-user", b"param").unwrap();
        head.add(Field::Header, "x-user", b"alice").unwrap();
        assert_eq!(header(&head, "x-user").collect::<Vec<_>>(), [b"alice"]);
        assert_eq!(header(&head, "x-other").count(), 0);
        assert_eq!(header(&Head::new(), "x-user").count(), 0);
    }

    #[test]
    fn a_client_is_the_same_in_both_families() {
        let (four, six) = ("127.0.0.1".parse().unwrap(), "::ffff:127.0.0.1".parse().unwrap());
        assert_eq!(client_place(four, 3), client_place(six, 3));
    }
}
