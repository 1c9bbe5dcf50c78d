//! A node as one of several: where its parts for that come from.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use baton_catalog::NodeName;
use baton_control::{ClusterError, ClusterOptions, EnterError, Tls};
use baton_flow::transfer::{Limits, Security};

use crate::cores;
use crate::failure::{Failure, Kind};

/// How a node is to take part in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSettings {
    /// The NATS servers, as URLs.
    pub(crate) servers: Vec<String>,
    /// The cluster's name.
    pub(crate) cluster: NodeName,
    /// The node's name.
    pub(crate) name: NodeName,
    /// Where other nodes reach this one.
    pub(crate) listen: SocketAddr,
    /// Certificates for other nodes, and for servers whose URL begins with `tls://`; plain without.
    pub(crate) tls: Option<Tls>,
    /// Plain connections also on addresses that others reach.
    pub(crate) allow_plaintext: bool,
    /// A file with credentials for the servers.
    pub(crate) credentials: Option<PathBuf>,
    /// The key of the cluster's secrets.
    pub(crate) secrets: Option<PathBuf>,
}

/// What other nodes are told of this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    /// Another number at each start.
    pub(super) incarnation: u64,
    /// Where other nodes reach this one.
    pub(super) address: SocketAddr,
}

impl ClusterSettings {
    /// How the data plane is to be reached by those of other nodes.
    pub(super) fn endpoint(&self) -> Result<baton_flow::transfer::Settings, Failure> {
        let incarnation = random()
            .map_err(|error| Failure::failed(format_args!("there are no random numbers: {error}"), ""))?;
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| {
                let what = format!("{} cannot be read: {error}", path.display());
                Failure::new(Kind::BadInput, what, "name a file in PEM")
            })
        };
        let security = match &self.tls {
            None => Security::Plain,
            Some(Tls { cert, key, ca }) => {
                Security::Tls { cert: read(cert)?, key: read(key)?, ca: read(ca)? }
            }
        };
        Ok(baton_flow::transfer::Settings {
            cluster: self.cluster.to_string(),
            node: self.name.to_string(),
            incarnation,
            listen: self.listen,
            security,
            allow_plaintext: self.allow_plaintext,
            limits: Limits::default(),
        })
    }

    pub(super) fn options(&self, presence: &Presence, gateway: SocketAddr) -> ClusterOptions {
        ClusterOptions {
            servers: self.servers.clone(),
            cluster: self.cluster.to_string(),
            node: self.name.to_string(),
            incarnation: presence.incarnation,
            transfer: presence.address,
            gateway,
            version: env!("CARGO_PKG_VERSION"),
            cores: u32::try_from(cores::allowed().len()).unwrap_or(u32::MAX),
            memory: memory_bytes(),
            credentials: self.credentials.clone(),
            tls: self.tls.clone(),
            secrets: self.secrets.clone(),
        }
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// The machine's memory; 0 where the kernel does not tell.
fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        let kind = match error {
            ClusterError::Unreachable { .. } => Kind::Unreachable,
            ClusterError::File { .. } => Kind::BadInput,
            _ => Kind::Failed,
        };
        Self::new(kind, &error, error.hint())
    }
}

impl From<EnterError> for Failure {
    fn from(error: EnterError) -> Self {
        match error {
            EnterError::Cluster(error) => error.into(),
            EnterError::Deploy(fault) => Self::failed(fault, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_memory_and_each_start_a_number_of_its_own() {
        assert!(memory_bytes() > 64 << 20);
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
