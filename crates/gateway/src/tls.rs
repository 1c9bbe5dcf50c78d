//! TLS at the door: certificates by name, clients' certificates, and new files taken up while the node runs.
//!
//! ```text
//!   files ──read──▶ ServerConfig ──▶ every new connection
//!     ▲ looked at once a second, on a thread of its own, and when asked to
//!     └ a change that has settled is read; what is no good is warned of, and what was good before stays
//! ```
//!
//! Each configuration has ticket keys of its own: a session that was begun under one is not resumed under the next, so that
//! a client whose authority was taken out has to show its certificate again, in vain.

mod identity;
mod keep;
mod pairs;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

pub(crate) use self::identity::identity_of;
pub use self::keep::Tls;
use self::pairs::{Pair, Pairs};

/// Longest file of certificates or keys that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What the gateway speaks over TLS, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificates come from, and what is asked of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chains and their keys, in PEM. Clients get the first whose certificate has the name that they ask for, and
    /// the first of all if none has.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// The authorities whose certificates clients may show, in PEM; clients are asked for none without.
    pub client_ca: Option<PathBuf>,
    /// Clients without a certificate are served too.
    pub client_optional: bool,
}

/// Why files are of no use for TLS.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than any such file.
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A file does not have what it should have.
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should have.
        what: &'static str,
    },
    /// A certificate that nobody would believe.
    Certificate {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A key that is none, or another certificate's.
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Authorities that cannot be used.
    Authority {
        /// Their file.
        path: PathBuf,
        /// What is wrong with them.
        why: String,
    },
    /// The files are fine, and TLS still cannot be had.
    Unusable {
        /// As TLS says it.
        why: String,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "{}: {source}", path.display()),
            Self::TooLarge { path } => write!(f, "{}: more than {FILE_BYTES_MAX} bytes", path.display()),
            Self::Pem { path, what } => write!(f, "{}: no {what} in PEM in it", path.display()),
            Self::Certificate { path, why } => write!(f, "certificate {}: {why}", path.display()),
            Self::Key { path, why } => write!(f, "key {}: {why}", path.display()),
            Self::Authority { path, why } => write!(f, "clients' authority {}: {why}", path.display()),
            Self::Unusable { why } => write!(f, "TLS cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl TlsFiles {
    /// Every file.
    fn all(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.pairs.iter().flat_map(|(cert, key)| [cert.as_path(), key.as_path()]);
        pairs.chain(self.client_ca.as_deref())
    }

    /// Reads the files.
    fn load(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |error: rustls::Error| TlsError::Unusable { why: error.to_string() };
        let pairs = self.pairs.iter().map(|(cert, key)| Pair::load(cert, key, &provider));
        let pairs = Pairs::new(pairs.collect::<Result<_, _>>()?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let authority = |why: String| TlsError::Authority { path: path.clone(), why };
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider);
                let verifier = if self.client_optional { verifier.allow_unauthenticated() } else { verifier };
                let verifier = verifier.build().map_err(|error| authority(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(pairs));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
        Ok(config)
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = store.add(certificate);
        added.map_err(|error| TlsError::Authority { path: path.to_owned(), why: error.to_string() })?;
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    let pem = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    found.ok().filter(|all| !all.is_empty()).ok_or_else(pem)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}
