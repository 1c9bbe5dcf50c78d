//! What all apps of a node share: options, counters, logs, receipts, and the two background loops of the data plane.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::RandomState;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use baton_replica::Launcher;
use baton_transfer::Endpoint;
use baton_transfer::nudge::Nudge;
use tokio::sync::Notify;

use crate::app::App;
use crate::cells::Group;
use crate::hosts::Hosts;
use crate::logs::{Logs, Writer};
use crate::outgoing::Fetch;
use crate::receipts::Receipts;
use crate::replica::Replica;
use crate::scale::Unit;
use crate::snapshots::Snapshots;
use crate::spill::Spill;
use crate::status::Totals;
use crate::traces::Traces;
use crate::tunnels::Tunnels;
use crate::watch::Watch;

/// How often deadlines are looked at while calls are out. They are met to this precision.
const TICK: Duration = Duration::from_millis(10);

/// How a node is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Cores that replicas may run on; empty for all.
    pub cores: Vec<usize>,
    /// Starts replicas without their sandbox.
    pub insecure_no_sandbox: bool,
    /// The program of cells; found beside the running one if `None`.
    pub cell_program: Option<PathBuf>,
    /// Where snapshots of compartments are kept from one run of the node to the next; nowhere if `None`.
    pub snapshots: Option<PathBuf>,
    /// Where calls of durable edges are kept until they are answered; there are none if `None`.
    pub spill: Option<PathBuf>,
}

/// Shared by all apps of a node; lives on the data-plane thread.
pub(crate) struct Node {
    pub(crate) options: Options,
    pub(crate) totals: RefCell<Totals>,
    pub(crate) logs: RefCell<Logs>,
    pub(crate) receipts: RefCell<Receipts>,
    pub(crate) watch: Watch,
    pub(crate) traces: RefCell<Traces>,
    pub(crate) draining: Cell<bool>,
    /// Starts processes.
    pub(crate) launcher: Launcher,
    /// Sends requests of functions out.
    pub(crate) fetch: RefCell<Option<Fetch>>,
    /// Opens the doors of replicas.
    pub(crate) tunnels: RefCell<Option<Tunnels>>,
    /// What other nodes host.
    pub(crate) hosts: RefCell<Rc<Hosts>>,
    /// Groups that have ahead what their next cells need, the newest last.
    pub(crate) prepared: RefCell<VecDeque<Weak<Group>>>,
    /// Units that are looked at, and what tells that there is another one, or one sooner.
    pub(crate) units: RefCell<Vec<Rc<Unit>>>,
    pub(crate) stirred: Notify,
    /// The start from which time is counted.
    began: Instant,
    /// Stored snapshots of compartments.
    pub(crate) snapshots: Option<Arc<Snapshots>>,
    /// Calls of durable edges.
    pub(crate) spill: Option<Rc<Spill>>,
    /// Every app that lives, versions that are being stopped included.
    pub(crate) apps: RefCell<Vec<Weak<App>>>,
    next_invocation: Cell<u64>,
    /// Its name in its cluster; empty without one.
    pub(crate) name: RefCell<Rc<str>>,
    /// This node's end of the roads to the others of its cluster.
    pub(crate) endpoint: RefCell<Option<Endpoint>>,
    /// Where chance comes from when a node is chosen.
    chance: Cell<u64>,
    to_ring: RefCell<Vec<Rc<Replica>>>,
    ring: Nudge,
    /// Wakes the deadline loop when the first call goes out.
    pub(crate) busy: Notify,
}

impl Node {
    pub(crate) fn new(options: Options) -> Rc<Node> {
        // Numbers of different runs of a node should not meet in someone's notes.
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let first = u64::try_from(start.as_millis()).unwrap_or(0) << 20;
        let snapshots = options.snapshots.as_deref().and_then(|directory| {
            let opened = Snapshots::open(directory);
            let failed = |error: &std::io::Error| {
                tracing::warn!(directory = %directory.display(), %error, "snapshots are not stored");
            };
            opened.inspect_err(failed).ok().map(Arc::new)
        });
        let spill = options.spill.as_deref().and_then(|directory| {
            let failed = |error: &std::io::Error| {
                tracing::error!(directory = %directory.display(), %error, "durable calls cannot be kept");
            };
            Spill::open(directory).inspect_err(failed).ok().map(Rc::new)
        });
        let traces = Traces::default();
        let logs = Logs::known(Rc::clone(&traces.known));
        Rc::new(Node {
            options,
            spill,
            snapshots,
            hosts: RefCell::default(),
            prepared: RefCell::default(),
            units: RefCell::default(),
            stirred: Notify::new(),
            began: Instant::now(),
            totals: RefCell::default(),
            logs: RefCell::new(logs),
            receipts: RefCell::default(),
            watch: Watch::new(),
            traces: RefCell::new(traces),
            draining: Cell::new(false),
            launcher: Launcher::default(),
            fetch: RefCell::new(None),
            tunnels: RefCell::new(None),
            apps: RefCell::default(),
            next_invocation: Cell::new(first | 1),
            name: RefCell::new(Rc::from("")),
            endpoint: RefCell::new(None),
            chance: Cell::new(std::hash::BuildHasher::hash_one(&RandomState::new(), first) | 1),
            to_ring: RefCell::default(),
            ring: Nudge::default(),
            busy: Notify::new(),
        })
    }

    pub(crate) fn next_invocation(&self) -> u64 {
        let number = self.next_invocation.get();
        self.next_invocation.set(number.wrapping_add(1).max(1));
        number
    }

    /// Time since the node began.
    pub(crate) fn since(&self) -> Duration {
        self.began.elapsed()
    }

    /// From when the node began to a point in time.
    pub(crate) fn until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// Two draws for a choice; nothing that has to be kept from anybody hangs on them.
    pub(crate) fn draw(&self) -> [u32; 2] {
        // Marsaglia's xorshift.
        let mut x = self.chance.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.chance.set(x);
        let [a, b, c, d, e, f, g, h] = x.to_le_bytes();
        [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
    }

    /// Rings `replica` once everything that is ready to run now has run: one wake-up for many requests.
    pub(crate) fn ring_later(&self, replica: Rc<Replica>) {
        let mut to_ring = self.to_ring.borrow_mut();
        to_ring.push(replica);
        if to_ring.len() == 1 {
            self.ring.give();
        }
    }

    /// Rings the bells of [`Node::ring_later`], forever.
    pub(crate) async fn ring_bells(self: Rc<Node>) {
        loop {
            self.ring.given().await;
            let replicas = self.to_ring.take();
            for replica in &replicas {
                replica.flush();
            }
        }
    }

    /// Says something about an app in its log.
    pub(crate) fn say(&self, app: &str, level: &'static str, message: &str) {
        let writer = Writer { app, function: "node", holder: 0 };
        self.logs.borrow_mut().add(writer, level, 0, message);
    }

    pub(crate) fn live_apps(&self) -> Vec<Rc<App>> {
        let mut apps = self.apps.borrow_mut();
        apps.retain(|app| app.strong_count() > 0);
        apps.iter().filter_map(Weak::upgrade).collect()
    }

    /// Fails calls whose time is over, forever. Sleeps while no call is out.
    pub(crate) async fn keep_time(self: Rc<Node>) {
        loop {
            self.busy.notified().await;
            loop {
                tokio::time::sleep(TICK).await;
                let mut out = false;
                for app in self.live_apps() {
                    out |= app.tick();
                }
                if !out {
                    break;
                }
            }
        }
    }
}
