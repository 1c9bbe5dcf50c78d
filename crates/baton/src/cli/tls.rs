//! Options of a gateway that speaks TLS.

use std::path::PathBuf;

use baton_gateway::{Tls, TlsError, TlsFiles};
use clap::{Args, ValueEnum};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// Speak TLS at the gateway: a certificate with those between it and its authority, in PEM. Once for each name
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Vec<PathBuf>,
    /// The certificate's key, in PEM; as often as --tls-cert, in the same order
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Vec<PathBuf>,
    /// Ask clients for certificates of these authorities, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Whether a client has to show one
    #[arg(long, value_enum, default_value = "required", requires = "tls_client_ca")]
    pub(crate) tls_client: ClientCertificate,
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientCertificate {
    /// Clients without one are served, without an identity
    Optional,
    /// Clients without one are turned away
    Required,
}

impl TlsArgs {
    /// The gateway's TLS, if it is to speak it. Reads the files.
    pub(crate) fn open(&self) -> Result<Option<Tls>, Failure> {
        if self.tls_cert.is_empty() {
            return Ok(None);
        }
        let (certs, keys) = (self.tls_cert.len(), self.tls_key.len());
        if certs != keys {
            return Err(Failure::bad_input(
                format_args!("--tls-cert is there {certs} times, --tls-key {keys} times"),
                "give each certificate its key, in the same order",
            ));
        }
        let files = TlsFiles {
            pairs: self.tls_cert.iter().cloned().zip(self.tls_key.iter().cloned()).collect(),
            client_ca: self.tls_client_ca.clone(),
            client_optional: self.tls_client == ClientCertificate::Optional,
        };
        Tls::open(files).map(Some).map_err(|error| Failure::failed(&error, hint(&error)))
    }
}

fn hint(error: &TlsError) -> &'static str {
    match error {
        TlsError::Unreadable { .. } | TlsError::TooLarge { .. } | TlsError::Pem { .. } => {
            "name files in PEM with --tls-cert, --tls-key and --tls-client-ca"
        }
        TlsError::Certificate { .. } => "get a certificate that is good now, or set the machine's clock",
        TlsError::Key { .. } => "give each --tls-cert its own --tls-key, in the same order",
        TlsError::Authority { .. } => {
            "name a file with the authorities' own certificates with --tls-client-ca"
        }
        TlsError::Unusable { .. } => "",
    }
}
