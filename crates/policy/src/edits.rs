//! Headers that are changed: by the manifest, and `Forwarded` with its older forms.

use std::net::IpAddr;

use baton_abi::head::{Field, record_bytes, records, write_record};
use baton_catalog::policy::{Edits, Forwarded, Template, network_of};

use crate::request::Request;

/// Most bytes of a client's own `Forwarded` that are kept.
const CHAIN_BYTES_MAX: usize = 2048;

/// Edits with their names in lower case.
#[derive(Debug)]
pub(crate) struct Changes {
    remove: Vec<String>,
    set: Vec<(String, Template)>,
    add: Vec<(String, Template)>,
}

impl Changes {
    pub(crate) fn new(edits: &Edits) -> Self {
        let lower = |(name, value): (&String, &Template)| (name.to_ascii_lowercase(), value.clone());
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
        for (name, template) in &self.set {
            let value = request.fill(template);
            request.set(name, value);
        }
        for (name, template) in &self.add {
            let value = request.fill(template);
            request.add(name, value);
        }
    }

    /// What to do to the answer, with what the request has put in: it is gone when the answer comes.
    pub(crate) fn prepared(&self, request: &Request<'_>) -> Prepared {
        let fill = |(name, template): &(String, Template)| (name.clone(), request.fill(template));
        Prepared {
            remove: self.remove.clone(),
            set: self.set.iter().map(fill).collect(),
            add: self.add.iter().map(fill).collect(),
        }
    }

    /// Whether the answer's values are the same for every request.
    pub(crate) fn is_fixed(&self) -> bool {
        self.set.iter().chain(&self.add).all(|(_, template)| template.parts().len() == 1)
    }
}

/// Changes of one answer.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    remove: Vec<String>,
    set: Vec<(String, Vec<u8>)>,
    add: Vec<(String, Vec<u8>)>,
}

impl Prepared {
    /// An answer's head with the changes in it. Records that stay are copied as they are; what no longer fits is left out.
    pub(crate) fn on_answer(&self, head: &[u8]) -> Vec<u8> {
        let own: usize =
            { self.set.iter().chain(&self.add) }.map(|(name, value)| record_bytes(name, value)).sum();
        let mut changed = Vec::with_capacity(head.len() + own);
        let goes = |name: &str| {
            let is = |known: &String| known.eq_ignore_ascii_case(name);
            self.remove.iter().any(is) || self.set.iter().any(|(known, _)| is(known))
        };
        for record in records(head).map_while(Result::ok) {
            if record.field != Field::Header || !goes(record.name) {
                append(&mut changed, record.field, record.name, record.value);
            }
        }
        for (name, value) in self.set.iter().chain(&self.add) {
            append(&mut changed, Field::Header, name, value);
        }
        changed
    }
}

fn append(head: &mut Vec<u8>, field: Field, name: &str, value: &[u8]) {
    let at = head.len();
    head.resize(at + record_bytes(name, value), 0);
    if write_record(head, at, field, name, value).is_err() {
        head.truncate(at);
    }
}

/// Who says who the client was.
#[derive(Debug)]
pub(crate) struct Origin {
    trusted: Vec<(IpAddr, u8)>,
}

impl Origin {
    pub(crate) fn new(forwarded: &Forwarded) -> Self {
        Self { trusted: forwarded.trusted.iter().filter_map(|network| network_of(network)).collect() }
    }

    pub(crate) fn on_request(&self, request: &mut Request<'_>) {
        let address = request.client.address;
        let is_trusted =
            address.is_some_and(|address| self.trusted.iter().any(|net| is_within(address, *net)));
        let proto = if request.client.is_secure { "https" } else { "http" };
        let host = request.header("host").map(<[u8]>::to_vec).unwrap_or_default();
        let text = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        let node = match address {
            Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
            _ => text.clone(),
        };
        let mut element = format!("for={node};proto={proto}").into_bytes();
        if !host.is_empty() {
            element.extend_from_slice(b";host=");
            quote(&host, &mut element);
        }
        let element = self.behind(request, is_trusted, "forwarded", element);
        request.set("forwarded", element);
        let chain = self.behind(request, is_trusted, "x-forwarded-for", text.into_bytes());
        request.set("x-forwarded-for", chain);
        if !is_trusted || request.header("x-forwarded-proto").is_none() {
            request.set("x-forwarded-proto", proto.into());
        }
        if is_trusted && request.header("x-forwarded-host").is_some() {
            return;
        }
        match host.is_empty() {
            true => request.remove("x-forwarded-host"),
            false => request.set("x-forwarded-host", host),
        }
    }

    /// An element behind those that a trusted proxy sent.
    fn behind(&self, request: &Request<'_>, is_trusted: bool, name: &str, element: Vec<u8>) -> Vec<u8> {
        if !is_trusted {
            return element;
        }
        let mut chain = Vec::new();
        for (_, value) in request.headers.iter().filter(|(known, _)| known == name) {
            if chain.len() + value.len() > CHAIN_BYTES_MAX {
                break;
            }
            chain.extend_from_slice(value);
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(&element);
        chain
    }
}

/// As a quoted string of RFC 9110.
fn quote(text: &[u8], to: &mut Vec<u8>) {
    to.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            to.push(b'\\');
        }
        to.push(*byte);
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
    use super::*;

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
