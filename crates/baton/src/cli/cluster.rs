//! Options of a node that is one of several, and what must not be said together.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use baton_catalog::NodeName;
use baton_control::Tls;
use clap::Args;

use crate::failure::Failure;
use crate::wiring::ClusterSettings;

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Be one of the nodes that share these NATS servers, as nats://HOST:PORT or tls://HOST:PORT
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',', requires = "name")]
    pub(crate) cluster: Vec<Server>,
    /// This node's name among them
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub(crate) name: Option<NodeName>,
    /// The cluster's name, where several share the servers
    #[arg(long, value_name = "NAME", default_value = "baton", requires = "cluster")]
    pub(crate) cluster_name: NodeName,
    /// Where other nodes reach this one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", requires = "cluster")]
    pub(crate) cluster_listen: SocketAddr,
    /// This node's certificate for other nodes and for servers by tls://, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["cluster", "cluster_key", "cluster_ca"])]
    pub(crate) cluster_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE", requires = "cluster_cert")]
    pub(crate) cluster_key: Option<PathBuf>,
    /// The authorities that other nodes and servers have their certificates from, in PEM
    #[arg(long, value_name = "FILE", requires = "cluster_cert")]
    pub(crate) cluster_ca: Option<PathBuf>,
    /// A file with credentials for the servers, as nsc writes it
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(crate) cluster_creds: Option<PathBuf>,
    /// The key with which secrets travel the cluster, 64 hexadecimal digits; the same file on every node
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(crate) cluster_secrets: Option<PathBuf>,
    /// Talk to other machines unencrypted
    #[arg(long, requires = "cluster")]
    pub(crate) insecure_plaintext: bool,
}

/// A NATS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    url: String,
    encrypted: bool,
    loopback: bool,
}

impl FromStr for Server {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "a server is written nats://HOST:PORT or tls://HOST:PORT";
        let (scheme, rest) = text.split_once("://").ok_or(SHAPE)?;
        let encrypted = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(SHAPE),
        };
        // In front of it may stand a user and a password.
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let (host, port) = place.rsplit_once(':').ok_or(SHAPE)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(SHAPE);
        }
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
        Ok(Self { url: text.to_owned(), encrypted, loopback })
    }
}

impl ClusterArgs {
    /// How the node takes part in a cluster, if it does.
    pub(crate) fn settings(&self) -> Result<Option<ClusterSettings>, Failure> {
        let Some(name) = &self.name else { return Ok(None) };
        let tls = match (&self.cluster_cert, &self.cluster_key, &self.cluster_ca) {
            (Some(cert), Some(key), Some(ca)) => {
                Some(Tls { cert: cert.clone(), key: key.clone(), ca: ca.clone() })
            }
            _ => None,
        };
        self.check(tls.is_some())?;
        Ok(Some(ClusterSettings {
            servers: self.cluster.iter().map(|server| server.url.clone()).collect(),
            cluster: self.cluster_name.clone(),
            name: name.clone(),
            listen: self.cluster_listen,
            tls,
            allow_plaintext: self.insecure_plaintext,
            credentials: self.cluster_creds.clone(),
            secrets: self.cluster_secrets.clone(),
        }))
    }

    fn check(&self, has_certificate: bool) -> Result<(), Failure> {
        let listen = self.cluster_listen;
        if listen.ip().is_unspecified() {
            return Err(Failure::bad_input(
                format_args!("other nodes cannot be told to reach this one at {listen}"),
                "name the address of one network with --cluster-listen",
            ));
        }
        let encrypted = self.cluster.iter().filter(|server| server.encrypted).count();
        if encrypted > 0 && encrypted < self.cluster.len() {
            return Err(Failure::bad_input(
                "some servers of --cluster are encrypted and some are not",
                "write all of them with tls://, or all with nats://",
            ));
        }
        if encrypted > 0 && !has_certificate {
            return Err(Failure::bad_input(
                "servers by tls:// need certificates",
                "name them with --cluster-cert, --cluster-key and --cluster-ca",
            ));
        }
        let is_plain = |server: &&Server| !server.encrypted && !server.loopback;
        let plain = self.cluster.iter().find(is_plain).map(|server| server.url.clone());
        let plain = plain.or_else(|| {
            (!listen.ip().is_loopback() && !has_certificate).then(|| format!("--cluster-listen {listen}"))
        });
        match plain.filter(|_| !self.insecure_plaintext) {
            Some(plain) => Err(Failure::bad_input(
                format_args!("{plain} would carry payloads or manifests unencrypted between machines"),
                "use certificates and tls://, or say --insecure-plaintext if the network is yours alone",
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::failure::Kind;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        cluster: ClusterArgs,
    }

    fn settings(line: &str) -> Result<Option<ClusterSettings>, Failure> {
        let line = Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace()));
        line.map_err(|error| Failure::bad_input(error, ""))?.cluster.settings()
    }

    #[test]
    fn a_node_is_alone_unless_it_is_told_of_servers_and_a_name() {
        assert!(settings("").unwrap().is_none());
        let found = settings("--cluster nats://127.0.0.1:4222,nats://[::1]:4223 --name a").unwrap().unwrap();
        assert_eq!(found.servers, ["nats://127.0.0.1:4222", "nats://[::1]:4223"]);
        assert_eq!((found.name.as_str(), found.cluster.as_str()), ("a", "baton"));
        assert!(found.listen.ip().is_loopback() && found.tls.is_none());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (line, word) in [
            ("--cluster nats://127.0.0.1:4222", "--name"),
            ("--name a", "--cluster"),
            ("--cluster http://127.0.0.1:4222 --name a", "nats://"),
            ("--cluster nats://127.0.0.1 --name a", "nats://"),
            ("--cluster nats://127.0.0.1:4222 --name A", "lower-case"),
            ("--cluster nats://127.0.0.1:4222 --name a --cluster-cert c", "--cluster-key"),
            ("--cluster nats://127.0.0.1:4222 --name a --cluster-listen 0.0.0.0:7000", "--cluster-listen"),
            ("--cluster nats://127.0.0.1:4222,tls://127.0.0.1:4223 --name a", "tls://"),
            ("--cluster tls://127.0.0.1:4222 --name a", "--cluster-cert"),
        ] {
            let failure = settings(line).unwrap_err();
            assert!(format!("{failure:?}").contains(word), "{line}: {failure:?}");
            assert_eq!(failure.kind(), Kind::BadInput);
        }
    }

    #[test]
    fn nothing_leaves_the_machine_unencrypted_unless_that_is_asked_for() {
        let far = "--cluster nats://10.0.0.1:4222 --name a";
        let open = "--cluster nats://user:word@localhost:4222 --name a --cluster-listen 10.0.0.2:7000";
        let certificates = "--cluster-cert c --cluster-key k --cluster-ca a";
        assert!(settings(far).is_err() && settings(open).is_err());
        assert!(settings(&format!("{far} --insecure-plaintext")).is_ok());
        assert!(settings(&format!("{open} --insecure-plaintext")).is_ok());
        assert!(settings(&format!("{open} {certificates}")).is_ok());
        assert!(settings(&format!("{far} {certificates}")).is_err(), "the servers are unencrypted still");
        let safe = "--cluster tls://10.0.0.1:4222 --name a --cluster-listen 10.0.0.2:7000";
        assert!(settings(&format!("{safe} {certificates}")).is_ok());
    }
}
