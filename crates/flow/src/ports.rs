//! Declared ports: what goes to others, in the networks that a function's replicas have of their own, is dropped and counted.
//!
//! Only where the manifest has `ports`. The program in the kernel goes with its replica; what it counted stays.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::rc::{Rc, Weak};

use baton_catalog::{Http, Listen, Runtime};
use baton_kernel::{PortCounts, Ports, Traffic, Undeclared};

use crate::app::App;
use crate::status::{PacketsStatus, PortsStatus};
use crate::tunnels::Plan;

/// Ports that are counted by themselves, of one function.
const NAMED_MAX: usize = 64;

/// What went over the networks of a function's replicas.
#[derive(Debug, Default)]
pub(crate) struct PortTally {
    past: RefCell<Option<PortsStatus>>,
    live: RefCell<Vec<(u64, Option<Ports>)>>,
    next: Cell<u64>,
}

impl PortTally {
    /// All of it, of those that are gone too.
    pub(crate) fn counts(&self) -> Option<PortsStatus> {
        let mut sum = self.past.borrow().clone()?;
        let live = self.live.borrow();
        for counts in live.iter().filter_map(|(_, ports)| ports.as_ref()?.counts().ok()) {
            add(&mut sum, &counts);
        }
        Some(sum)
    }

    fn end(&self, number: u64) {
        let mut live = self.live.borrow_mut();
        let Some(place) = live.iter().position(|(one, _)| *one == number) else { return };
        let (_, ports) = live.swap_remove(place);
        if let Some(counts) = ports.and_then(|ports| ports.counts().ok()) {
            add(self.past.borrow_mut().get_or_insert_default(), &counts);
        }
    }
}

fn add(sum: &mut PortsStatus, counts: &PortCounts) {
    let plus = |to: &mut PacketsStatus, Traffic { packets, bytes }| {
        to.packets += packets;
        to.bytes += bytes;
    };
    plus(&mut sum.passed, counts.passed);
    plus(&mut sum.dropped, counts.undeclared);
    for (port, traffic) in &counts.by_port {
        if sum.dropped_by_port.len() < NAMED_MAX || sum.dropped_by_port.contains_key(port) {
            plus(sum.dropped_by_port.entry(*port).or_default(), *traffic);
        }
    }
}

/// As long as it is there, the ports of one replica are declared.
struct Declared {
    app: Weak<App>,
    function: usize,
    number: u64,
}

impl Drop for Declared {
    fn drop(&mut self) {
        let Some(app) = self.app.upgrade() else { return };
        if let Some(state) = app.functions.get(self.function) {
            state.tally.ports.end(self.number);
        }
    }
}

/// Declares the ports of the replica whose process is `pid`, if its function names any, until what is given is dropped. It takes the kernel
/// some milliseconds, during which the replica starts.
pub(crate) fn declare(
    app: &Rc<App>,
    function: usize,
    pid: u32,
    plan: &Plan,
) -> Option<Box<dyn core::any::Any>> {
    let state = app.functions.get(function)?;
    let Runtime::Http(Http { ports: Some(named), listen, .. }) = &state.spec.runtime else { return None };
    let network = match network_of(pid) {
        Ok(network) => network,
        Err(why) => {
            say(app, function, &why);
            return None;
        }
    };
    let served = match listen {
        Listen::Port(port) => Some(*port),
        Listen::Socket(_) => None,
    };
    let doors = plan.doors.iter().map(|(at, _)| at.port());
    let ports: Vec<u16> = named.iter().copied().chain(served).chain(doors).collect();
    let tally = &state.tally.ports;
    let number = tally.next.replace(tally.next.get().wrapping_add(1));
    tally.live.borrow_mut().push((number, None));
    tally.past.borrow_mut().get_or_insert_default();
    let (waiting, to) = (Rc::downgrade(app), function);
    tokio::task::spawn_local(async move {
        let made = tokio::task::spawn_blocking(move || {
            Ports::declare(network.as_fd(), &ports, Undeclared::Drop).map_err(|error| error.to_string())
        });
        let made = made.await.unwrap_or_else(|error| Err(error.to_string()));
        let Some(app) = waiting.upgrade() else { return };
        match made {
            Ok(ports) => {
                let Some(state) = app.functions.get(to) else { return };
                let mut live = state.tally.ports.live.borrow_mut();
                // Gone meanwhile: so are its network and its ports.
                if let Some((_, place)) = live.iter_mut().find(|(one, _)| *one == number) {
                    *place = Some(ports);
                }
            }
            Err(why) => say(&app, to, &why),
        }
    });
    Some(Box::new(Declared { app: Rc::downgrade(app), function, number }))
}

fn say(app: &App, function: usize, why: &str) {
    let name = app.functions.get(function).map_or("", |state| state.name.as_str());
    app.node.say(&app.name, "warn", &format!("{name}: its `ports` are not kept to: {why}"));
}

/// The network of a process, which is not the node's.
fn network_of(pid: u32) -> Result<File, String> {
    let open = |path: String| {
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        let about = file.metadata().map_err(|error| format!("{path}: {error}"))?;
        Ok::<_, String>((file, (about.dev(), about.ino())))
    };
    let (file, its) = open(format!("/proc/{pid}/ns/net"))?;
    let (_, own) = open("/proc/self/ns/net".to_owned())?;
    if its == own { Err("it has no network of its own".to_owned()) } else { Ok(file) }
}
