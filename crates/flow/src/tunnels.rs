//! Connections out of a replica's own network, for programs that open them themselves.
//!
//! A sandboxed program has a network namespace with a loopback interface and nothing else. For each connection that the manifest
//! names, the process that is to become the program listened in there before it was walled in, and gave the listener to the node: a *door*.
//! The program connects to a loopback address; the node accepts, and connects out. Nothing inside holds a door, and what leads
//! through one is the node's to know. One more door speaks the protocol of HTTP proxies, for names below `*.`.
//!
//! ```text
//!   program ──TCP──▶ 127.77.0.1:5432 ═ door ═▶ node: name and port checked again ──TCP──▶ db.internal:5432
//!           ──TCP──▶ 127.77.255.1:3128 ═ door ═▶ node: CONNECT, or GET http://…    ──TCP──▶ what `network` names
//!           ──TCP──▶ anything else: no route, refused by the kernel
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use baton_catalog::{Function, connection};
use tokio::sync::mpsc;

use crate::app::App;
use crate::outlet::Counts;

/// Where a proxy listens, inside.
pub(crate) const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 77, 255, 1), 3128);
/// Connections that one replica may have out.
pub const CONNECTIONS_MAX: usize = 128;
/// What is told of connections and was not heard yet; more is not told.
const TOLD_MAX: usize = 256;

/// Opens the doors of a replica, until what it gives is dropped.
pub type Tunnels = Rc<dyn Fn(Doors) -> Box<dyn core::any::Any>>;

/// The doors of one replica.
#[derive(Debug)]
pub struct Doors {
    /// The function.
    pub function: String,
    /// What its manifest allows.
    pub network: Vec<String>,
    /// The listeners.
    pub doors: Vec<Door>,
    /// What is to be counted, and said in the log.
    pub told: mpsc::Sender<Told>,
}

/// One listener inside a replica's network.
#[derive(Debug)]
pub struct Door {
    /// Does not block.
    pub listener: TcpListener,
    /// Where it leads.
    pub to: Leads,
}

/// Where a door leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To this host and port.
    To(String, u16),
    /// Where an HTTP client asks it to.
    Proxy,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is open.
    Opened,
    /// The manifest does not name it.
    Denied {
        /// Host and port, as the manifest would name them.
        host: String,
    },
    /// It could not be opened.
    Failed {
        /// Host and port.
        host: String,
        /// Why.
        why: String,
    },
    /// The replica has as many as it may.
    Crowded,
}

/// What is to be made in a replica's network before its program runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Where to listen, and where that leads.
    pub(crate) doors: Vec<(SocketAddrV4, Leads)>,
    /// Lines for `/etc/hosts`.
    pub(crate) hosts: String,
}

impl Plan {
    /// For a function whose program opens connections by itself; native ones ask the node instead.
    pub(crate) fn for_programs(function: &Function) -> Plan {
        if function.is_native() { Plan::default() } else { Plan::of(&function.network) }
    }

    /// For a function with this `network`; empty where it names nothing.
    pub(crate) fn of(network: &[String]) -> Plan {
        let mut plan = Plan::default();
        let mut places: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
        for (host, port) in network.iter().filter_map(|entry| connection(entry)) {
            let host = host.to_ascii_lowercase();
            let at = match host.parse::<IpAddr>() {
                // It is the program's own loopback: the same address and port lead out.
                Ok(IpAddr::V4(address)) if address.is_loopback() => address,
                // Reached by the proxy: no interface has them.
                Ok(_) => continue,
                // The first line of `/etc/hosts` has it already, and a name leads to its first address.
                Err(_) if host == "localhost" => Ipv4Addr::LOCALHOST,
                Err(_) => {
                    let next = u8::try_from(places.len() + 1).unwrap_or(u8::MAX);
                    *places.entry(host.clone()).or_insert(Ipv4Addr::new(127, 77, 0, next))
                }
            };
            plan.doors.push((SocketAddrV4::new(at, port), Leads::To(host, port)));
        }
        for (host, at) in &places {
            plan.hosts.push_str(&format!("{at} {host}\n"));
        }
        if !network.is_empty() {
            plan.doors.push((PROXY, Leads::Proxy));
        }
        plan.doors.dedup();
        plan
    }

    /// What programs read to find the proxy.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let has_doors = !self.doors.is_empty();
        let proxy = format!("http://{PROXY}");
        let names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
        let all = names.map(|name| (name, proxy.clone())).into_iter();
        let none = ["NO_PROXY", "no_proxy"].map(|name| (name, "localhost,127.0.0.1,::1".to_owned()));
        all.chain(none).filter(move |_| has_doors)
    }
}

/// Opens the doors of a new replica of `function`; they close with what this gives.
pub(crate) fn open(
    app: &Rc<App>,
    function: usize,
    plan: &Plan,
    listeners: Vec<OwnedFd>,
) -> Option<Box<dyn core::any::Any>> {
    let tunnels = app.node.tunnels.borrow().clone()?;
    let state = app.functions.get(function)?;
    if listeners.is_empty() {
        return None;
    }
    let leads = plan.doors.iter().map(|(_, leads)| leads.clone());
    let doors = listeners.into_iter().map(TcpListener::from).zip(leads);
    let (told, mut heard) = mpsc::channel(TOLD_MAX);
    let app = Rc::clone(app);
    let doors = Doors {
        function: state.name.to_string(),
        network: state.spec.network.clone(),
        doors: doors.map(|(listener, to)| Door { listener, to }).collect(),
        told,
    };
    tokio::task::spawn_local(async move {
        while let Some(told) = heard.recv().await {
            note(&app, function, &told);
        }
    });
    Some(tunnels(doors))
}

/// Counts it, and says in the log what is not as the program wants it.
fn note(app: &App, function: usize, told: &Told) {
    let Some(state) = app.functions.get(function) else { return };
    let name = &state.name;
    let mut counts: Counts = state.out.get();
    let said = match told {
        Told::Opened => {
            counts.answered += 1;
            None
        }
        Told::Denied { host } => {
            counts.denied += 1;
            Some(format!(
                "{host} is not in `network` of function `{name}`; add \"{host}\" there in baton.toml"
            ))
        }
        Told::Failed { host, why } => {
            counts.failed += 1;
            Some(format!("{name}: {host} cannot be reached: {why}"))
        }
        Told::Crowded => {
            counts.failed += 1;
            Some(format!("{name}: a replica has {CONNECTIONS_MAX} connections out, as many as it may"))
        }
    };
    state.out.set(counts);
    if let Some(said) = said {
        app.node.say(&app.name, "warn", &said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(network: &[&str]) -> Plan {
        Plan::of(&network.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    fn leads(plan: &Plan) -> Vec<(String, Leads)> {
        plan.doors.iter().map(|(at, leads)| (at.to_string(), leads.clone())).collect()
    }

    #[test]
    fn every_name_has_an_address_of_its_own_and_every_port_a_door() {
        let plan = plan(&["db.internal:5432", "DB.internal:5433", "cache:6379", "*.example.org:443"]);
        let to = |at: &str, host: &str, port| (at.to_owned(), Leads::To(host.to_owned(), port));
        assert_eq!(
            leads(&plan),
            [
                to("127.77.0.1:5432", "db.internal", 5432),
                to("127.77.0.1:5433", "db.internal", 5433),
                to("127.77.0.2:6379", "cache", 6379),
                (PROXY.to_string(), Leads::Proxy),
            ]
        );
        assert_eq!(plan.hosts, "127.77.0.2 cache\n127.77.0.1 db.internal\n");
        assert_eq!(plan.environment().count(), 6);
    }

    #[test]
    fn addresses_are_what_they_are_and_nothing_is_opened_for_nothing() {
        let some = plan(&["127.9.8.7:5432", "10.0.0.1:80", "[::1]:80"]);
        let own = ("127.9.8.7:5432".to_owned(), Leads::To("127.9.8.7".to_owned(), 5432));
        assert_eq!(leads(&some), [own, (PROXY.to_string(), Leads::Proxy)]);
        assert!(some.hosts.is_empty());
        let local = plan(&["localhost:5432"]);
        let own = ("127.0.0.1:5432".to_owned(), Leads::To("localhost".to_owned(), 5432));
        assert_eq!(leads(&local), [own, (PROXY.to_string(), Leads::Proxy)]);
        assert!(local.hosts.is_empty());
        let none = plan(&[]);
        assert!(none.doors.is_empty() && none.environment().next().is_none());
    }
}
