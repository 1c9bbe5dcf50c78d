//! Nodes `a` and `b`, a machine each, and the server of NATS that they find each other by.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::place::{Place, Site};
use crate::app::App;
use crate::load::{ClientError, get};
use crate::locate;
use crate::proc::Server;
use crate::suites::SuiteError;
use crate::systems::{self, Admin, Fleet, Setup, SystemError};

const NATS_PORT: u16 = 4222;
/// How long both nodes may take to serve what was deployed.
const SERVED_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
/// What a single request may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The server of NATS, in the hub.
pub(super) fn nats(place: &Place) -> Result<Server, SystemError> {
    let directory = place.directory("nats")?;
    let config = directory.join("server.conf");
    let text = format!(
        "listen: \"{}\"\njetstream {{ store_dir: \"{}\", max_mem: 64MB, max_file: 1GB }}\n",
        place.socket(Site::Hub, NATS_PORT),
        directory.join("jetstream").display()
    );
    fs::write(&config, text).map_err(SystemError::State)?;
    let args = vec!["-c".into(), config.into()];
    let ready = |line: &str| line.contains("Server is ready").then_some(());
    Ok(place.start((Site::Hub, false), "nats-server", (&locate::nats_server(), args), ready)?.0)
}

/// How the nodes of a cluster are started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The cluster's name, which is also that of its rows.
    pub(super) name: &'static str,
    pub(super) tls: bool,
    pub(super) receipts: bool,
    /// Whether each node stays on its machine's core.
    pub(super) pinned: bool,
}

/// Two nodes with one app.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Its first node is the one that requests go to.
    pub(super) fleet: Fleet,
    /// Where the second node's gateway is.
    pub(super) second: std::net::SocketAddr,
}

impl Cluster {
    /// Starts both nodes, deploys `app`, and waits until `probe` is served across them.
    pub(super) fn start(
        setup: &Setup,
        place: &Place,
        terms: Terms,
        app: &App,
        probe: &str,
    ) -> Result<Self, SuiteError> {
        let home = place.directory(terms.name)?;
        let keys = if terms.tls { Some(certificates(&home)?) } else { None };
        let node = |site, name| {
            let node = Node { place, terms, site, name, home: home.join(name) };
            node.start(&setup.baton, keys.as_deref())
        };
        let (first, (address, admin)) = node(Site::A, "a")?;
        let (other, (second, _)) = node(Site::B, "b")?;
        let directory = home.join("app");
        app.write(&directory).map_err(SystemError::App)?;
        systems::deploy_at(setup, &home.join("a"), &directory)?;
        let fleet = Fleet::of(terms.name, address, Some(admin), vec![first, other]);
        let cluster = Self { fleet, second };
        cluster.wait(place, probe)?;
        Ok(cluster)
    }

    fn wait(&self, place: &Place, probe: &str) -> Result<(), SuiteError> {
        let until = Instant::now() + SERVED_WITHIN;
        loop {
            let problem = match self.ask(place, probe)? {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(error) => error.to_string(),
            };
            if Instant::now() > until {
                return Err(SuiteError::Answer { system: self.fleet.system.clone(), problem });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks the first node's gateway, from its own machine.
    pub(super) fn ask(
        &self,
        place: &Place,
        path: &str,
    ) -> Result<Result<(u16, Vec<u8>), ClientError>, SuiteError> {
        let address = self.fleet.address;
        let asked = place.on_a(|| get(address, path, None, PATIENCE))?;
        Ok(asked.map(|answer| (answer.status, answer.body)))
    }

    /// The receipt of the last recorded invocation.
    pub(super) fn last_receipt(&self, place: &Place) -> Result<Value, SuiteError> {
        let Some(Admin { address, token }) = self.fleet.admin.clone() else { return Ok(Value::Null) };
        let asked = place.on_a(|| get(address, "/v1/receipts/last", Some(&token), PATIENCE))?;
        let answer = asked?;
        let fine = Some(answer.body).filter(|_| answer.status == 200);
        fine.and_then(|body| serde_json::from_slice(&body).ok()).ok_or_else(|| SuiteError::Answer {
            system: self.fleet.system.clone(),
            problem: format!("no receipt: status {}", answer.status),
        })
    }
}

struct Node<'a> {
    place: &'a Place,
    terms: Terms,
    site: Site,
    name: &'a str,
    home: PathBuf,
}

impl Node<'_> {
    fn start(
        &self,
        baton: &Path,
        keys: Option<&Path>,
    ) -> Result<(Server, (std::net::SocketAddr, Admin)), SystemError> {
        let Self { place, terms, site, name, home } = self;
        let own = place.socket(*site, 0).to_string();
        let nats = format!("nats://{}", place.socket(Site::Hub, NATS_PORT));
        let mut args: Vec<OsString> =
            ["node", "--json", "--insecure-plaintext", "--home"].map(Into::into).to_vec();
        args.push(home.into());
        let words = [
            ("--listen", own.as_str()),
            ("--admin", "127.0.0.1:0"),
            ("--cluster", &nats),
            ("--cluster-name", terms.name),
            ("--name", name),
            ("--cluster-listen", &own),
        ];
        args.extend(words.iter().flat_map(|(flag, value)| [OsString::from(flag), value.into()]));
        if let Some(core) = place.core(*site).filter(|_| terms.pinned) {
            args.extend(["--cores".into(), core.to_string().into()]);
        }
        if terms.receipts {
            args.push("--receipts".into());
        }
        if let Some(keys) = keys {
            for (flag, file) in
                [("cert", format!("{name}.pem")), ("key", format!("{name}.key")), ("ca", "ca.pem".into())]
            {
                args.extend([format!("--cluster-{flag}").into(), keys.join(file).into()]);
            }
        }
        let name = format!("{} {name}", terms.name);
        place.start((*site, terms.pinned), &name, (baton, args), systems::node_ready)
    }
}

/// An authority, and a certificate of it for each node; files in PEM.
fn certificates(home: &Path) -> Result<PathBuf, SystemError> {
    let place = home.join("keys");
    fs::create_dir_all(&place).map_err(SystemError::State)?;
    let write = |name: &str, text: String| fs::write(place.join(name), text);
    let made = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.pem", params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        for node in ["a", "b"] {
            let key = KeyPair::generate()?;
            let own = CertificateParams::new(vec![node.to_owned()])?.signed_by(&key, &issuer)?;
            write(&format!("{node}.pem"), own.pem())?;
            write(&format!("{node}.key"), key.serialize_pem())?;
        }
        Ok(())
    };
    made().map_err(|error| SystemError::State(std::io::Error::other(error)))?;
    Ok(place)
}
