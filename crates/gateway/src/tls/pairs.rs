//! Certificates with their keys, and which of them a client gets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, certificates, read};

/// A certificate chain and its key.
pub(super) struct Pair(Arc<CertifiedKey>);

/// All of them; there is at least one.
pub(super) struct Pairs(Vec<Pair>);

impl Pair {
    pub(super) fn load(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let bad_cert = |why: String| TlsError::Certificate { path: cert.to_owned(), why };
        let bad_key = |why: String| TlsError::Key { path: key.to_owned(), why };
        let chain = certificates(cert)?;
        if let Some(leaf) = chain.first() {
            let (_, parsed) =
                x509_parser::parse_x509_certificate(leaf).map_err(|error| bad_cert(error.to_string()))?;
            let validity = parsed.validity();
            if !validity.is_valid() {
                let (from, until) = (validity.not_before, validity.not_after);
                return Err(bad_cert(format!("it is good from {from} until {until}, and not now")));
            }
        }
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| TlsError::Pem { path: key.to_owned(), what: "private key" })?;
        let pair = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => bad_key(format!("it is not the key of {}", cert.display())),
            error => bad_key(error.to_string()),
        })?;
        Ok(Self(Arc::new(pair)))
    }

    fn has_name(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.0.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        parsed.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
    }
}

impl Pairs {
    pub(super) fn new(pairs: Vec<Pair>) -> Self {
        Self(pairs)
    }

    fn choose(&self, name: Option<&str>) -> Option<&Pair> {
        let (first, others) = self.0.split_first()?;
        if others.is_empty() {
            return Some(first);
        }
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.0.iter().find(|pair| pair.has_name(&name)));
        Some(named.unwrap_or(first))
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").field("count", &self.0.len()).finish()
    }
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(|pair| Arc::clone(&pair.0))
    }
}
