//! Whom the node believes that a server is who it says: the machine's certificate authorities, and those that the node is given.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Certificate authorities beside the machine's.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    extra: Vec<CertificateDer<'static>>,
}

/// Why a file of certificate authorities is of no use.
#[derive(Debug)]
pub struct AuthorityError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for AuthorityError {}

impl Authorities {
    /// The certificates in a PEM file.
    ///
    /// # Errors
    /// [`AuthorityError`] if it cannot be read, has no certificate, or one that cannot be a root.
    pub fn read(path: &Path) -> Result<Authorities, AuthorityError> {
        let failed = |why: String| AuthorityError { path: path.to_owned(), why };
        let shown = |error: rustls::pki_types::pem::Error| failed(error.to_string());
        let found = CertificateDer::pem_file_iter(path).map_err(shown)?;
        let extra = found.collect::<Result<Vec<_>, _>>().map_err(shown)?;
        if extra.is_empty() {
            return Err(failed("no certificate in it".to_owned()));
        }
        let mut store = RootCertStore::empty();
        for certificate in &extra {
            store.add(certificate.clone()).map_err(|error| failed(error.to_string()))?;
        }
        Ok(Authorities { extra })
    }

    /// TLS for clients who trust them and the machine's. Reads files.
    pub(super) fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let mut store = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "some of the machine's certificate authorities cannot be read");
        }
        let (taken, _) = store.add_parsable_certificates(native.certs);
        if taken == 0 && self.extra.is_empty() {
            tracing::warn!("this machine has no certificate authorities: no `https` host will be believed");
        }
        for certificate in &self.extra {
            store.add(certificate.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(store).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_its_name() {
        let path = std::env::temp_dir().join(format!("baton-no-authority-{}", std::process::id()));
        let missing = Authorities::read(&path).unwrap_err().to_string();
        assert!(missing.contains("baton-no-authority"), "{missing}");
        for text in ["", "no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(Authorities::read(&path).is_err(), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
