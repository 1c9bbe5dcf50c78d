//! Who may speak with this node, and how a connection is kept from others.
//!
//! TLS 1.3 both ways: a peer's certificate must be signed by the cluster's authority, be good now, and name the node that the peer's
//! hello says. Sessions are not resumed, so each connection is judged anew.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

/// The protocol's name in a TLS handshake: no other service's connection is taken for ours.
const PROTOCOL: &[u8] = b"baton/1";

/// How connections are secured.
#[derive(Clone)]
pub enum Security {
    /// Not at all: on loopback addresses only, unless the settings say otherwise.
    Plain,
    /// TLS with certificates both ways; all in PEM.
    Tls {
        /// This node's certificate, and those between it and the authority's.
        cert: Vec<u8>,
        /// Its private key.
        key: Vec<u8>,
        /// The certificates of the cluster's authority.
        ca: Vec<u8>,
    },
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Security::Plain) { "Plain" } else { "Tls" })
    }
}

/// Why a connection cannot be secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityError {
    /// A file that is none.
    Pem {
        /// Which: certificate, key, authority.
        what: &'static str,
    },
    /// Certificate and key do not go together, or the authority's certificates are unusable.
    Unusable {
        /// As TLS says it.
        why: String,
    },
    /// Without TLS on an address that others can reach.
    Plaintext {
        /// The address.
        address: SocketAddr,
    },
    /// The node's name cannot be in a certificate.
    Name {
        /// The name.
        node: String,
    },
}

impl fmt::Display for SecurityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecurityError::Pem { what } => write!(f, "the {what} is not in PEM, or there is none in it"),
            SecurityError::Unusable { why } => {
                write!(f, "certificate, key and authority cannot be used: {why}")
            }
            SecurityError::Plaintext { address } => write!(
                f,
                "{address} is no loopback address, and the connection would be neither encrypted nor authenticated: \
                 give certificates, or allow plaintext on a network that is yours alone"
            ),
            SecurityError::Name { node } => {
                write!(f, "`{node}` cannot be the name in a certificate: use letters, digits, `-` and `.`")
            }
        }
    }
}

impl std::error::Error for SecurityError {}

/// What connections are made with.
#[derive(Clone)]
pub(crate) enum Secured {
    Plain { anywhere: bool },
    Tls { client: Arc<ClientConfig>, server: Arc<ServerConfig> },
}

fn unusable(error: impl fmt::Display) -> SecurityError {
    SecurityError::Unusable { why: error.to_string() }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    all.ok().filter(|all| !all.is_empty()).ok_or(SecurityError::Pem { what })
}

impl Secured {
    pub(crate) fn new(security: &Security, allow_plaintext: bool) -> Result<Secured, SecurityError> {
        let Security::Tls { cert, key, ca } = security else {
            return Ok(Secured::Plain { anywhere: allow_plaintext });
        };
        let chain = certificates(cert, "node's certificate")?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| SecurityError::Pem { what: "node's key" })?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, "authority's certificate")? {
            roots.add(root).map_err(unusable)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = &[&rustls::version::TLS13];
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_client_cert_verifier(verifier.build().map_err(unusable)?)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(unusable)?;
        client.resumption = rustls::client::Resumption::disabled();
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Secured::Tls { client: Arc::new(client), server: Arc::new(server) })
    }

    /// Whether connections from or to `address` are to be had.
    pub(crate) fn allows(&self, address: SocketAddr) -> Result<(), SecurityError> {
        match self {
            Secured::Plain { anywhere: false } if !address.ip().is_loopback() => {
                Err(SecurityError::Plaintext { address })
            }
            _ => Ok(()),
        }
    }

    /// TLS to `node`; `None` without TLS.
    pub(crate) fn to(&self, node: &str) -> Result<Option<Box<Connection>>, SecurityError> {
        let Secured::Tls { client, .. } = self else { return Ok(None) };
        let name = name(node)?;
        let connection = ClientConnection::new(Arc::clone(client), name).map_err(unusable)?;
        Ok(Some(Box::new(connection.into())))
    }

    /// TLS with whoever connected; `None` without TLS.
    pub(crate) fn from(&self) -> Result<Option<Box<Connection>>, SecurityError> {
        let Secured::Tls { server, .. } = self else { return Ok(None) };
        let connection = ServerConnection::new(Arc::clone(server)).map_err(unusable)?;
        Ok(Some(Box::new(connection.into())))
    }
}

fn name(node: &str) -> Result<ServerName<'static>, SecurityError> {
    ServerName::try_from(node.to_owned()).map_err(|_| SecurityError::Name { node: node.to_owned() })
}

/// Whether the certificate that the peer showed names `node`. The handshake has checked everything else.
pub(crate) fn names(connection: &Connection, node: &str) -> bool {
    let Some(shown) = connection.peer_certificates().and_then(<[_]>::first) else { return false };
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(shown), name(node)) else { return false };
    verify_server_name(&parsed, &name).is_ok()
}
