//! Headers that are changed: by the manifest, and `Forwarded` with its older forms.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

use baton_abi::head::{Field, RawRecord, raw_records};
use baton_abi::limits::HEAD_MAX_BYTES;
use baton_catalog::policy::{Edits, Forwarded, Template, network_of};

use crate::records::append;
use crate::request::{Client, Request};

/// Most bytes of a client's own `Forwarded` that are kept.
const CHAIN_BYTES_MAX: usize = 2048;

/// What a header is set to.
#[derive(Debug)]
enum Value {
    /// The same for every request.
    Fixed(Vec<u8>),
    Of(Template),
}

impl Value {
    fn new(template: &Template) -> Self {
        match template.parts() {
            [(text, None)] => Self::Fixed(text.clone().into_bytes()),
            _ => Self::Of(template.clone()),
        }
    }

    fn fill(&self, request: &Request<'_>) -> Cow<'_, [u8]> {
        match self {
            Self::Fixed(text) => Cow::Borrowed(text),
            Self::Of(template) => Cow::Owned(request.fill(template)),
        }
    }
}

/// Edits with their names in lower case.
#[derive(Debug)]
pub(crate) struct Changes {
    remove: Vec<String>,
    set: Vec<(String, Value)>,
    add: Vec<(String, Value)>,
}

impl Changes {
    pub(crate) fn new(edits: &Edits) -> Self {
        let lower = |(name, value): (&String, &Template)| (name.to_ascii_lowercase(), Value::new(value));
        Self {
            remove: edits.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
            set: edits.set.iter().map(lower).collect(),
            add: edits.add.iter().map(lower).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    pub(crate) fn on_request(&self, request: &mut Request<'_>) {
        for name in &self.remove {
            request.remove(name);
        }
        for (name, value) in &self.set {
            match value {
                Value::Fixed(text) => request.set(name, text),
                Value::Of(template) => {
                    let value = request.fill(template);
                    request.set(name, &value);
                }
            }
        }
        for (name, value) in &self.add {
            match value {
                Value::Fixed(text) => request.add(name, text),
                Value::Of(template) => {
                    let value = request.fill(template);
                    request.add(name, &value);
                }
            }
        }
    }

    /// What is put behind the answer's headers, with what the request has put in: that is gone when the answer comes.
    pub(crate) fn prepared(&self, request: &Request<'_>) -> Prepared {
        let mut records = Vec::new();
        for (name, value) in self.set.iter().chain(&self.add) {
            append(&mut records, Field::Header, name.as_bytes(), &value.fill(request));
        }
        Prepared(records)
    }

    /// Whether the answer's values are the same for every request.
    pub(crate) fn is_fixed(&self) -> bool {
        self.set.iter().chain(&self.add).all(|(_, value)| matches!(value, Value::Fixed(_)))
    }

    fn takes_away(&self, record: &RawRecord<'_>) -> bool {
        let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(record.name);
        record.field == Field::Header
            && (self.remove.iter().any(|name| is(name)) || self.set.iter().any(|(name, _)| is(name)))
    }

    /// Changes an answer's head. What no longer fits is left out.
    pub(crate) fn on_answer(&self, head: &mut Vec<u8>, Prepared(own): &Prepared) {
        // Mostly nothing has to make room, and what is added goes behind what is there.
        let mut read = 0;
        let is_as_it_was = raw_records(head).all(|record| {
            read += record.bytes();
            !self.takes_away(&record)
        });
        if !is_as_it_was || read < head.len() {
            let mut kept = Vec::with_capacity(head.len() + own.len());
            for record in raw_records(head).filter(|record| !self.takes_away(record)) {
                append(&mut kept, record.field, record.name, record.value);
            }
            *head = kept;
        }
        if head.len() + own.len() <= HEAD_MAX_BYTES {
            head.extend_from_slice(own);
            return;
        }
        for record in raw_records(own) {
            append(head, record.field, record.name, record.value);
        }
    }
}

/// Records that are put behind an answer's headers.
#[derive(Debug, Default)]
pub(crate) struct Prepared(Vec<u8>);

/// The headers that say who the client was.
const ORIGIN: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
/// Clients whose headers are kept ready. Who asks once asks again.
const KNOWN: usize = 64;
/// Longest host that is kept.
const KNOWN_HOST_BYTES_MAX: usize = 128;

/// Who says who the client was.
#[derive(Debug)]
pub(crate) struct Origin {
    trusted: Vec<(IpAddr, u8)>,
    /// What was written for some clients, each at the one place for its address.
    known: RefCell<Vec<Option<Known>>>,
}

/// What is written for a client that nobody stands before.
#[derive(Debug)]
struct Known {
    address: IpAddr,
    is_secure: bool,
    host: Box<[u8]>,
    records: Box<[u8]>,
}

impl Origin {
    pub(crate) fn new(forwarded: &Forwarded) -> Self {
        let trusted = forwarded.trusted.iter().filter_map(|network| network_of(network)).collect();
        Self { trusted, known: RefCell::new((0..KNOWN).map(|_| None).collect()) }
    }

    pub(crate) fn on_request(&self, request: &mut Request<'_>) {
        let Client { address, is_secure, .. } = request.client;
        let is_trusted =
            address.is_some_and(|address| self.trusted.iter().any(|net| is_within(address, *net)));
        let host = request.copy_of("host").unwrap_or_default();
        // What the client said itself, and what stood before, decide too where there is any.
        let is_plain = !is_trusted && !ORIGIN.iter().any(|name| request.may_have(name));
        let mut known = self.known.borrow_mut();
        let address = address.filter(|_| is_plain && host.len() <= KNOWN_HOST_BYTES_MAX);
        let place = address.and_then(|address| Some((address, known.get_mut(place_of(address))?)));
        let Some((address, place)) = place else { return write_origin(request, is_trusted, &host) };
        match place {
            Some(known)
                if known.address == address && known.is_secure == is_secure && *known.host == *host =>
            {
                request.add_again(&ORIGIN, &known.records);
            }
            _ => {
                let before = request.added_len();
                write_origin(request, is_trusted, &host);
                let (host, records) = (host.into(), request.added_since(before).into());
                *place = Some(Known { address, is_secure, host, records });
            }
        }
    }
}

/// Where a client is kept, if it is.
fn place_of(address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            u64::try_from((bits >> 64) ^ (bits & u128::from(u64::MAX))).unwrap_or_default()
        }
    };
    // The upper bits of Fibonacci hashing.
    usize::try_from(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58).unwrap_or_default() % KNOWN
}

fn write_origin(request: &mut Request<'_>, is_trusted: bool, host: &[u8]) {
    let Client { address, is_secure, .. } = request.client;
    let proto = if is_secure { "https" } else { "http" };
    let before = |name: &str| if is_trusted { chain(request, name) } else { Default::default() };
    let (elements, addresses) = (before("forwarded"), before("x-forwarded-for"));
    request.set_with("forwarded", |to| {
        to.extend_from_slice(&elements);
        to.extend_from_slice(b"for=");
        match address {
            Some(IpAddr::V6(address)) => {
                to.extend_from_slice(b"\"[");
                to.extend_from_slice(address.to_string().as_bytes());
                to.extend_from_slice(b"]\"");
            }
            other => named(other, to),
        }
        to.extend_from_slice(b";proto=");
        to.extend_from_slice(proto.as_bytes());
        if !host.is_empty() {
            to.extend_from_slice(b";host=");
            quote(host, to);
        }
    });
    request.set_with("x-forwarded-for", |to| {
        to.extend_from_slice(&addresses);
        named(address, to);
    });
    if !is_trusted || request.header("x-forwarded-proto").is_none() {
        request.set("x-forwarded-proto", proto.as_bytes());
    }
    if is_trusted && request.header("x-forwarded-host").is_some() {
        return;
    }
    match host.is_empty() {
        true => request.remove("x-forwarded-host"),
        false => request.set("x-forwarded-host", host),
    }
}

/// The elements that a trusted proxy sent, ready for another one behind them.
fn chain(request: &Request<'_>, name: &str) -> Vec<u8> {
    let mut chain = Vec::new();
    for value in request.values(name) {
        if chain.len() + value.len() > CHAIN_BYTES_MAX {
            break;
        }
        chain.extend_from_slice(value);
        chain.extend_from_slice(b", ");
    }
    chain
}

/// Who sent a request.
fn named(address: Option<IpAddr>, to: &mut Vec<u8>) {
    match address {
        Some(IpAddr::V4(address)) => dotted(address, to),
        Some(IpAddr::V6(address)) => to.extend_from_slice(address.to_string().as_bytes()),
        None => to.extend_from_slice(b"unknown"),
    }
}

/// An address as people write it, without the machinery of formatting.
fn dotted(address: Ipv4Addr, to: &mut Vec<u8>) {
    let (mut text, mut len) = ([0; 16], 0);
    let mut put = |byte: u8| {
        if let Some(place) = text.get_mut(len) {
            *place = byte;
            len += 1;
        }
    };
    for octet in address.octets() {
        if octet >= 100 {
            put(b'0' + octet / 100);
        }
        if octet >= 10 {
            put(b'0' + octet / 10 % 10);
        }
        put(b'0' + octet % 10);
        put(b'.');
    }
    // Without the last dot.
    to.extend_from_slice(text.get(..len.saturating_sub(1)).unwrap_or_default());
}

/// As a quoted string of RFC 9110.
fn quote(text: &[u8], to: &mut Vec<u8>) {
    to.push(b'"');
    for part in text.split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
        match part.split_last() {
            Some((last @ (b'"' | b'\\'), rest)) => {
                to.extend_from_slice(rest);
                to.extend_from_slice(&[b'\\', *last]);
            }
            _ => to.extend_from_slice(part),
        }
    }
    to.push(b'"');
}

/// Whether an address lies in a network.
fn is_within(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    let shifted = |address: u128, width: u32| {
        let drop = width - u32::from(bits);
        if drop >= width { 0 } else { address >> drop }
    };
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            shifted(u128::from(address.to_bits()), 32) == shifted(u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            shifted(address.to_bits(), 128) == shifted(network.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use baton_abi::head::{Record, records};

    use super::*;

    #[test]
    fn addresses_are_written_as_the_library_does() {
        for bits in [0, 0x0a00_0001, 0x7f00_0001, 0xc0a8_0a63, 0xffff_ffff, 0x6409_0a64] {
            let mut text = Vec::new();
            dotted(Ipv4Addr::from_bits(bits), &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), Ipv4Addr::from_bits(bits).to_string());
        }
    }

    fn answer_of(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            assert!(append(&mut head, Field::Header, name.as_bytes(), value.as_bytes()));
        }
        head
    }

    #[test]
    fn what_is_set_stays_readable_behind_an_answer_that_is_malformed_or_full() {
        let edits = r#"{"remove":["server"],"set":{"x-frame-options":"DENY"}}"#;
        let changes = Changes::new(&serde_json::from_str(edits).unwrap());
        let own = changes.prepared(&Request::of(&[], crate::Client::default()));
        let change = |mut head: Vec<u8>| {
            changes.on_answer(&mut head, &own);
            let names = |record: Result<Record<'_>, _>| record.map(|record| record.name.to_owned()).unwrap();
            records(&head).map(names).collect::<Vec<_>>()
        };
        assert_eq!(change(answer_of(&[("a", "1")])), ["a", "x-frame-options"]);
        assert_eq!(
            change(answer_of(&[("Server", "s"), ("X-Frame-Options", "ALLOW"), ("a", "1")])),
            ["a", "x-frame-options"]
        );
        let mut broken = answer_of(&[("a", "1")]);
        broken.extend_from_slice(b"\x05\x09");
        assert_eq!(change(broken), ["a", "x-frame-options"]);
        let (long, rest) = ("1".repeat(60_000), "1".repeat(HEAD_MAX_BYTES - 2 * 60_005 - 9));
        let full = answer_of(&[("a", &long), ("b", &long), ("c", &rest)]);
        assert_eq!(change(full), ["a", "b", "c"]);
    }

    #[test]
    fn a_client_that_asks_again_gets_its_own_origin_and_no_other() {
        let origin = Origin::new(&serde_json::from_str("{}").unwrap());
        let told = |address: &str, host: &str, is_secure: bool, own: Option<&str>| {
            let mut head = answer_of(&[("host", host)]);
            if let Some(own) = own {
                assert!(append(&mut head, Field::Header, b"x-forwarded-for", own.as_bytes()));
            }
            let client = Client { address: address.parse().ok(), is_secure, ..Client::default() };
            let mut request = Request::of(&head, client);
            origin.on_request(&mut request);
            let all = ORIGIN.map(|name| {
                assert!(request.only_header(name).is_ok());
                String::from_utf8_lossy(request.header(name).unwrap_or_default()).into_owned()
            });
            all.join(" ")
        };
        let expect = |address: &str, host: &str, proto: &str| {
            let named = if address.contains(':') { format!("\"[{address}]\"") } else { address.to_owned() };
            format!("for={named};proto={proto};host=\"{host}\" {address} {proto} {host}")
        };
        // More clients than are kept, so that they meet at their places; each twice in a row, and again later.
        let addresses = (0..200u32).map(|bits| Ipv4Addr::from_bits(0x0a00_0000 + bits).to_string());
        let addresses: Vec<String> = addresses.chain(["fd00::1".to_owned(), "fd00::2".to_owned()]).collect();
        for address in addresses.iter().flat_map(|address| [address, address]).chain(&addresses) {
            for (host, is_secure, proto) in
                [("a", false, "http"), ("b:1", false, "http"), ("b:1", true, "https")]
            {
                for own in [None, None, Some("6.6.6.6"), None] {
                    assert_eq!(told(address, host, is_secure, own), expect(address, host, proto));
                }
            }
        }
    }

    #[test]
    fn what_ends_a_quoted_string_is_escaped() {
        for (text, expect) in [("", r#""""#), ("a:1", r#""a:1""#), (r#"a"b\c\"#, r#""a\"b\\c\\""#)] {
            let mut to = Vec::new();
            quote(text.as_bytes(), &mut to);
            assert_eq!(String::from_utf8(to).unwrap(), expect);
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let check = |address: &str, network: &str, expect| {
            let network = network_of(network).unwrap();
            assert_eq!(is_within(address.parse().unwrap(), network), expect, "{address} {network:?}");
        };
        check("10.1.2.3", "10.0.0.0/8", true);
        check("11.1.2.3", "10.0.0.0/8", false);
        check("::ffff:10.1.2.3", "10.0.0.0/8", true);
        check("fd00::1", "fd00::/8", true);
        check("fe00::1", "fd00::/8", false);
        check("1.2.3.4", "0.0.0.0/0", true);
        check("1.2.3.4", "1.2.3.4/32", true);
        check("::1", "10.0.0.0/8", false);
    }
}
