//! The direct roads between replicas, as the node knows them: it makes them, and closes them when an end dies.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::boot::{Edge, NETWORK, NODE_PEER, Name};
use baton_abi::packet::EDGES_MAX;
use baton_abi::reference::REFERENCES;
use baton_abi::stream::STREAMS;
use baton_pool::Placed;
use baton_pool::capability::NODE;
use baton_pool::figures::Figures;
use baton_pool::link::{self, Duplex, DuplexFlags, Side, ring_entries_for};
use baton_pool::region::RegionError;
use rustix::io::Errno;

use crate::app::App;
use crate::cells::Group;
use crate::counted::{self, Sums};
use crate::guarded::Guard;
use crate::hosting::Hosting;
use crate::outlet::{Beyond, Outlet};
use crate::replica::{Phase, Replica};

/// Descriptors in each ring of an edge: half of them are calls that may be out.
const EDGE_ENTRIES: u32 = 512;
/// Why there is no number for one more edge.
const CROWDED: &str = "as many edges are up as an app may have";
/// How long the living end may take to look at what a dead peer sent.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

struct Road {
    id: u16,
    caller: u16,
    callee: u16,
    flags: DuplexFlags,
    figures: Placed<Figures>,
    /// The functions at its ends; `None` for what leads out of the node, but to a function.
    between: Option<(usize, usize)>,
    /// Whether the kernel hands over on it.
    is_guarded: bool,
    closed: Option<Instant>,
}

/// All edges of an app.
#[derive(Default)]
pub(crate) struct Edges {
    roads: Vec<Road>,
    last_id: u16,
    /// What passed over edges that are no more.
    gone: Sums,
}

impl Edges {
    /// Whether the edge is one over which something may still arrive.
    pub(crate) fn is_live(&self, id: u16) -> bool {
        self.roads.iter().any(|road| road.id == id)
    }

    /// `CALLER -> CALLEE` as holders.
    pub(crate) fn ends(&self, id: u16) -> Option<(u16, u16)> {
        self.roads.iter().find(|road| road.id == id).map(|road| (road.caller, road.callee))
    }

    /// Whether edges wait for their last descriptors to be looked at.
    pub(crate) fn has_closed(&self) -> bool {
        self.roads.iter().any(|road| road.closed.is_some())
    }

    /// A number that no edge has over which something may still arrive. `None` if there is none.
    fn next_id(&mut self) -> Option<u16> {
        let last = self.last_id;
        let mut after = (0..EDGES_MAX - 1).map(|step| 1 + (last + step) % (EDGES_MAX - 1));
        self.last_id = after.find(|id| !self.is_live(*id))?;
        Some(self.last_id)
    }

    /// Of an edge on which the kernel hands over, and of which `holder` is an end: whether it still does, and whether that end is the
    /// caller's.
    pub(crate) fn guarded(&self, id: u16, holder: u16) -> Option<(bool, bool)> {
        let is_end = |road: &&Road| road.caller == holder || road.callee == holder;
        let road = self.roads.iter().find(|road| road.id == id && road.is_guarded).filter(is_end)?;
        Some((road.closed.is_none(), road.caller == holder))
    }

    /// Closes the edges of a dead replica. Gives the holders at their other ends.
    pub(crate) fn close(&mut self, dead: u16, guard: Option<&Guard>) -> Vec<u16> {
        let mut others = Vec::new();
        for road in self.roads.iter_mut().filter(|road| road.caller == dead || road.callee == dead) {
            if let Some(guard) = guard.filter(|_| road.is_guarded && road.closed.is_none()) {
                guard.close(road.id);
            }
            road.flags.close();
            road.closed.get_or_insert_with(Instant::now);
            others.push(if road.caller == dead { road.callee } else { road.caller });
        }
        others
    }

    /// Says to the callers of some replicas that those get no more calls, or get some again. Gives the callers.
    pub(crate) fn retire(&self, callees: &[u16], is_retiring: bool) -> Vec<u16> {
        let to = self.roads.iter().filter(|road| road.closed.is_none() && callees.contains(&road.callee));
        to.inspect(|road| road.flags.retire(is_retiring)).map(|road| road.caller).collect()
    }

    /// Forgets closed edges whose living end has seen everything, or had its time. `true` if any went.
    pub(crate) fn forget_drained(&mut self, is_up: impl Fn(u16) -> bool, guard: Option<&Guard>) -> bool {
        let before = self.roads.len();
        let is_over = |road: &Road| {
            let both_down = || !is_up(road.caller) && !is_up(road.callee);
            road.closed.is_some_and(|since| {
                both_down() || road.flags.is_drained() || since.elapsed() > DRAIN_PATIENCE
            })
        };
        let gone = &mut self.gone;
        self.roads.retain(|road| {
            let is_over = is_over(road);
            if is_over {
                road.add_to(gone, guard);
            }
            !is_over
        });
        self.roads.len() != before
    }

    /// What passed over all edges so far.
    pub(crate) fn sums(&self, guard: Option<&Guard>) -> Sums {
        let mut sums = self.gone.clone();
        self.roads.iter().for_each(|road| road.add_to(&mut sums, guard));
        sums
    }

    /// What passed between functions by ways that are no more.
    pub(crate) fn gone(&mut self) -> &mut Sums {
        &mut self.gone
    }
}

impl Road {
    fn add_to(&self, sums: &mut Sums, guard: Option<&Guard>) {
        let (Some(between), Some(row)) = (self.between, self.figures.first()) else { return };
        match guard.filter(|_| self.is_guarded) {
            Some(guard) => counted::add_by_kernel(sums, between, row.counted(), guard.counts(self.id)),
            None => counted::add(sums, between, row.counted()),
        }
    }
}

/// Makes the edges between `new` and every replica that is up, both ways, as the manifest's `calls` declare. Inside a cell
/// there are none, since a call is a gate there; between cells of one group only those that were asked for.
pub(crate) fn connect(app: &Rc<App>, new: &Rc<Replica>) -> Result<(), String> {
    connect_outside(app, new)?;
    for other in app.replicas() {
        for (caller, callee) in [(new, &other), (&other, new)] {
            if is_wanted(app, caller, callee) {
                pave(app, caller, callee)?;
            }
        }
    }
    Ok(())
}

/// Makes the edges from one function of a group to another between all its cells: one of them makes long calls of it in
/// parallel. A replica that does not take its end is condemned.
pub(crate) fn widen(app: &Rc<App>, group: &Group, caller: usize, callee: usize) {
    if !group.wants_edges(caller, callee) {
        return;
    }
    let all = app.replicas();
    for from in all.iter().filter(|replica| replica.function == caller) {
        for to in all.iter().filter(|replica| replica.function == callee) {
            if is_wanted(app, from, to)
                && let Err(why) = pave(app, from, to)
            {
                to.condemn(&why);
            }
        }
    }
}

fn is_wanted(app: &App, caller: &Replica, callee: &Replica) -> bool {
    let is_up = |replica: &Replica| replica.phase.get() != Phase::Dead;
    let in_one_cell = || match (caller.peer.borrow().cell(), callee.peer.borrow().cell()) {
        (Some(one), Some(other)) => Rc::ptr_eq(one, other),
        _ => false,
    };
    let declared = || {
        let functions = (app.functions.get(caller.function), app.functions.get(callee.function));
        matches!(functions, (Some(from), Some(to)) if from.spec.calls.contains(&to.name))
    };
    let asked_for = || {
        let group = app.common_group(caller, callee);
        group.is_none_or(|group| group.has_edges(caller.function, callee.function))
    };
    caller.holder != callee.holder
        && is_up(caller)
        && is_up(callee)
        && declared()
        && !in_one_cell()
        && asked_for()
}

fn pave(app: &Rc<App>, caller: &Rc<Replica>, callee: &Rc<Replica>) -> Result<(), String> {
    let entries = ring_entries_for(EDGE_ENTRIES);
    let fd = link::create("baton-edge", entries).map_err(|error| error.to_string())?;
    let (flags, figures) = link::map_head(&fd).map_err(|error| error.to_string())?;
    if callee.phase.get() == Phase::Draining {
        flags.retire(true);
    }
    for end in [caller, callee] {
        end.nudges.set(end.nudges.get().wrapping_add(1));
    }
    let mut edges = app.edges.borrow_mut();
    let id = edges.next_id().ok_or(CROWDED)?;
    let named = |index: usize| Name::new(app.function_name(index)).ok_or("a function's name is too long");
    let timeout_ms = app
        .functions
        .get(callee.function)
        .map_or(0, |state| u32::try_from(state.spec.timeout.duration().as_millis()).unwrap_or(u32::MAX));
    let queue_max = app.functions.get(callee.function).map_or(0, |state| state.spec.scale.queue);
    let edge = |is_caller: bool, own: &Replica, peer: &Replica, name| Edge {
        id,
        peer: peer.holder,
        own: own.holder,
        is_caller,
        ring_entries: entries,
        queue_max,
        timeout_ms,
        name,
    };
    let (to_caller, to_callee) = (
        edge(true, caller, callee, named(callee.function)?),
        edge(false, callee, caller, named(caller.function)?),
    );
    let (caller_peer, callee_peer) = (caller.peer.borrow(), callee.peer.borrow());
    if let Err(errno) = callee_peer.add_edge(to_callee, fd.as_fd(), &caller_peer) {
        refused(callee, errno);
        return Ok(());
    }
    // The callee knows of it before anything can come over it.
    if let Some(guard) = &app.guard
        && let Err(why) = guard.open(id, caller, callee)
    {
        flags.close();
        return Err(why);
    }
    // The callee has its end: the edge is closed, as any other, when the caller is dead.
    if let Err(errno) = caller_peer.add_edge(to_caller, fd.as_fd(), &callee_peer) {
        refused(caller, errno);
    }
    let between = Some((caller.function, callee.function));
    let (caller, callee) = (caller.holder, callee.holder);
    let is_guarded = app.guard.is_some();
    edges.roads.push(Road { id, caller, callee, flags, figures, between, is_guarded, closed: None });
    Ok(())
}

/// Makes the edges to the node itself: to the network, and to those of its callees that run on other nodes.
fn connect_outside(app: &Rc<App>, new: &Rc<Replica>) -> Result<(), String> {
    let Some(state) = app.functions.get(new.function) else { return Ok(()) };
    if !state.spec.network.is_empty() {
        pave_outside(app, new, Beyond::Network)?;
    }
    if state.spec.references {
        pave_outside(app, new, Beyond::References)?;
    }
    if state.spec.stream {
        pave_outside(app, new, Beyond::Streams)?;
    }
    for (index, callee) in app.functions.iter().enumerate() {
        if callee.hosting == Hosting::Elsewhere && state.spec.calls.contains(&callee.name) {
            pave_outside(app, new, Beyond::Function(index))?;
        }
    }
    Ok(())
}

fn pave_outside(app: &Rc<App>, new: &Rc<Replica>, beyond: Beyond) -> Result<(), String> {
    let (name, bounded_by) = match beyond {
        Beyond::Network => (NETWORK, new.function),
        Beyond::References => (REFERENCES, new.function),
        Beyond::Streams => (STREAMS, new.function),
        Beyond::Function(callee) => (app.function_name(callee), callee),
    };
    let spec = &app.functions.get(bounded_by).ok_or("no such function")?.spec;
    let entries = ring_entries_for(EDGE_ENTRIES);
    let shown = |error: RegionError| error.to_string();
    let fd = link::create("baton-edge", entries).map_err(shown)?;
    let (flags, figures) = link::map_head(&fd).map_err(shown)?;
    let duplex = Duplex::map(&fd, entries, Side::Far).map_err(shown)?;
    let mut edges = app.edges.borrow_mut();
    let id = edges.next_id().ok_or(CROWDED)?;
    let edge = Edge {
        id,
        peer: NODE_PEER,
        own: new.holder,
        is_caller: true,
        ring_entries: entries,
        queue_max: spec.scale.queue,
        timeout_ms: if beyond == Beyond::Streams {
            // A part waits for as long as its stream lives.
            u32::MAX
        } else {
            u32::try_from(spec.timeout.duration().as_millis()).unwrap_or(u32::MAX)
        },
        name: Name::new(name).ok_or("a function's name is too long")?,
    };
    if let Err(errno) = new.peer.borrow().add_node_edge(edge, fd.as_fd()) {
        refused(new, errno);
        return Ok(());
    }
    let between = match beyond {
        Beyond::Function(callee) => Some((new.function, callee)),
        Beyond::Network | Beyond::References | Beyond::Streams => None,
    };
    let (caller, callee) = (new.holder, NODE);
    edges.roads.push(Road { id, caller, callee, flags, figures, between, is_guarded: false, closed: None });
    new.outlets.borrow_mut().push(Outlet::new(id, beyond, duplex, entries / 2));
    Ok(())
}

/// Whoever does not take an edge pays for it, not the replica at the other end.
fn refused(by: &Replica, errno: Errno) {
    match errno {
        // It has closed its control socket, most likely because it has just ended.
        Errno::PIPE | Errno::CONNRESET => by.kill(),
        _ => by.condemn(&format!("it does not take its edges: {errno}")),
    }
}
