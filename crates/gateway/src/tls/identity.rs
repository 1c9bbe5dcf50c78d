//! Who a client is, by the certificate that it was let in with.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

/// Longest identity, in bytes; a client with a longer one has none.
const IDENTITY_BYTES_MAX: usize = 512;
/// What stands in front of a DNS name, and of a common name, so that neither passes for a URI.
const DNS: &str = "dns:";
const COMMON_NAME: &str = "cn:";

/// The first URI of a certificate, else its first DNS name behind `dns:`, else its common name behind `cn:`.
///
/// The certificate must have been verified. Names with control characters, or none of these, are no identity.
pub(crate) fn identity_of(certificate: &[u8]) -> Option<Box<str>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let identity = by_alternative(&parsed).or_else(|| by_subject(&parsed))?;
    let is_plain = !identity.is_empty()
        && identity.len() <= IDENTITY_BYTES_MAX
        && !identity.chars().any(char::is_control);
    is_plain.then(|| identity.into_boxed_str())
}

fn by_alternative(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let uri = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) if !uri.starts_with(DNS) && !uri.starts_with(COMMON_NAME) => {
            Some((*uri).to_owned())
        }
        _ => None,
    });
    let dns = || {
        names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some(format!("{DNS}{}", name.to_ascii_lowercase())),
            _ => None,
        })
    };
    uri.or_else(dns)
}

fn by_subject(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(format!("{COMMON_NAME}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn identity(name: Option<&str>, alternatives: Vec<SanType>) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        identity_of(certificate.der()).map(String::from)
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn a_uri_stands_before_a_name_and_a_name_before_the_subject() {
        let all = vec![dns("A.example"), uri("spiffe://shop/api")];
        assert_eq!(identity(Some("x"), all).as_deref(), Some("spiffe://shop/api"));
        assert_eq!(identity(Some("x"), vec![dns("A.example")]).as_deref(), Some("dns:a.example"));
        assert_eq!(identity(Some("alice"), vec![]).as_deref(), Some("cn:alice"));
        assert_eq!(identity(None, vec![]), None);
    }

    #[test]
    fn one_kind_of_name_does_not_pass_for_another() {
        assert_eq!(identity(Some("x"), vec![uri("dns:a.example")]).as_deref(), Some("cn:x"));
        assert_eq!(
            identity(Some("spiffe://shop/api"), vec![]).as_deref(),
            Some("cn:spiffe://shop/api"),
            "a common name is marked as one"
        );
    }

    #[test]
    fn what_cannot_be_written_in_a_line_is_no_identity() {
        assert_eq!(identity(Some("a\nb"), vec![]), None);
        assert_eq!(identity(Some(&"x".repeat(600)), vec![]), None);
        assert_eq!(identity_of(b"no certificate"), None);
    }
}
