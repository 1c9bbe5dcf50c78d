//! What can be seen of an app from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::Rights;
use baton_pool::capability::{Capability, Hold, State};
use baton_replica::Cell;

use crate::app::App;
use crate::outlet::Counts;
use crate::puts::PutCounts;
use crate::replica::{Phase, Replica};
use crate::status::{
    AppStatus, CapabilityRow, FunctionStatus, NetworkStatus, PoolStatus, ReferencesStatus, ReplicaStatus,
    ScaleStatus,
};

/// How long cells may take to say who holds what, and how long it is waited between two looks.
const SHOWN_WITHIN: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Has the cells of `replicas` bring the capability table up to date.
pub(crate) async fn have_cells_show(replicas: &[Rc<Replica>]) {
    let mut asked: Vec<(Rc<Cell>, u32)> = Vec::new();
    for replica in replicas {
        let Some(cell) = replica.peer.borrow().cell().cloned() else { continue };
        if !asked.iter().any(|(other, _)| Rc::ptr_eq(other, &cell)) {
            let number = cell.bell().ask_to_show();
            replica.nudge();
            asked.push((cell, number));
        }
    }
    let until = Instant::now() + SHOWN_WITHIN;
    let is_behind = |(cell, number): &(Rc<Cell>, u32)| cell.bell().shown() != *number;
    while asked.iter().any(is_behind) && Instant::now() < until {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub(crate) fn app(app: &App) -> AppStatus {
    let functions = app.functions.iter().enumerate().map(|(number, state)| {
        let unit = app.unit_of(number);
        FunctionStatus {
            function: state.name.to_string(),
            isolation: state.spec.isolation.as_str().to_owned(),
            runs_as: state.hosting.to_string(),
            artifact: state.artifact.display().to_string(),
            queued: u32::try_from(state.queued()).unwrap_or(u32::MAX),
            calls: state.calls.get(),
            errors: state.errors.get(),
            by_class: state.tally.classes(),
            bytes_in: state.tally.bytes().0,
            bytes_out: state.tally.bytes().1,
            latency: state.tally.latency(),
            faults: state.faults.get(),
            network: network(state.out.get()),
            ports: state.tally.ports.counts(),
            loaded: state.loaded.get(),
            cold_starts: state.cold_starts.borrow().as_deref().copied().unwrap_or_default(),
            scale: unit.map_or(ScaleStatus { min: 0, max: 0, wanted: 0 }, |unit| unit.status()),
            replicas: state
                .replicas
                .borrow()
                .iter()
                .enumerate()
                // Where nobody keeps one, none is missing.
                .filter(|(place, up)| up.is_some() || unit.is_some_and(|unit| unit.keeps(*place)))
                .map(|(_, place)| match place {
                    Some(up) => replica(up, state.restarts.get()),
                    None => down(state.restarts.get()),
                })
                .collect(),
        }
    });
    let functions = functions.collect();
    let references = references(app);
    let edges = crate::counted::edges(app);
    AppStatus {
        app: app.name.clone(),
        version: app.version,
        functions,
        edges,
        pool: pool(app),
        references,
        trust: app.trust.as_str().to_owned(),
        wake: app.wake.as_str().to_owned(),
        wake_because: app.wake.why().to_owned(),
        refusals: app.guard.as_ref().map(|guard| guard.refusals()).unwrap_or_default(),
    }
}

fn references(app: &App) -> ReferencesStatus {
    let puts = app.puts.borrow();
    let ((held, held_bytes), PutCounts { put, got, forged, over }) = (puts.usage(), puts.counts);
    ReferencesStatus { held: u32::try_from(held).unwrap_or(u32::MAX), held_bytes, put, got, forged, over }
}

fn network(counts: Counts) -> NetworkStatus {
    let Counts { answered, denied, failed } = counts;
    NetworkStatus { answered, denied, failed }
}

fn replica(up: &Replica, restarts: u32) -> ReplicaStatus {
    let peer = up.peer.borrow();
    ReplicaStatus {
        holder: up.holder,
        pid: peer.pid(),
        cell: peer.cell().map(|cell| cell.number()),
        state: up.phase.get().as_str().to_owned(),
        // A cell's bell counts for all of its replicas.
        in_flight: if peer.cell().is_some() { up.in_flight() } else { peer.bell().in_flight() },
        restarts,
        up_s: up.started.elapsed().as_secs(),
    }
}

fn down(restarts: u32) -> ReplicaStatus {
    let state = Phase::Dead.as_str().to_owned();
    ReplicaStatus { holder: 0, pid: 0, cell: None, state, in_flight: 0, restarts, up_s: 0 }
}

pub(crate) fn pool(app: &App) -> PoolStatus {
    let usage = app.pool.borrow().usage();
    let stashed = match app.guard {
        Some(_) => stashes(app).into_values().sum::<u32>().min(usage.buffers_out),
        None => usage.buffers_stashed,
    };
    PoolStatus {
        pool_bytes: usage.pool_bytes,
        free_bytes: usage.free_bytes,
        buffers_out: usage.buffers_out,
        buffers_stashed: stashed,
        buffers_in_use: usage.buffers_out.saturating_sub(stashed),
        orphans: usage.orphans,
    }
}

/// Where the kernel hands over, what a replica keeps empty is its own affair: as many as it says, and no more than it has.
fn stashes(app: &App) -> BTreeMap<u16, u32> {
    let roots = app.pool.borrow().roots_by_holder();
    let said = |replica: &Rc<Replica>| {
        let has = roots.get(&replica.holder).copied().unwrap_or_default();
        (replica.holder, replica.peer.borrow().bell().stashed().min(has))
    };
    app.replicas().iter().map(said).collect()
}

/// Leaves out the buffers that replicas keep empty, where the table does not tell them: those that were handed over longest ago.
fn without_stashes(app: &App, found: Vec<Capability>) -> Vec<Capability> {
    let mut empty = stashes(app);
    let roots = app.pool.borrow().roots_by_holder();
    let is_root = |found: &Capability| found.parent.is_none() && found.hold.state == State::Held;
    for (holder, empty) in &mut empty {
        let shown = found.iter().filter(|found| is_root(found) && found.hold.holder == *holder).count();
        let told = roots.get(holder).copied().unwrap_or_default();
        // The table tells those apart that were never used.
        *empty = empty.saturating_sub(told.saturating_sub(u32::try_from(shown).unwrap_or(u32::MAX)));
    }
    // Nothing frozen is kept empty.
    let may_be_empty = |found: &&Capability| is_root(found) && found.rights == Rights::ALL;
    let mut by_age: Vec<&Capability> = found.iter().filter(may_be_empty).collect();
    by_age.sort_by_key(|found| found.invocation);
    let mut hidden = BTreeSet::new();
    for old in by_age {
        if let Some(left) = empty.get_mut(&old.hold.holder).filter(|left| **left > 0) {
            *left -= 1;
            hidden.insert(old.handle.index);
        }
    }
    found.into_iter().filter(|found| !(is_root(found) && hidden.contains(&found.handle.index))).collect()
}

pub(crate) fn capabilities(app: &App) -> Vec<CapabilityRow> {
    let mut found: Vec<Capability> = app.pool.borrow().capabilities().collect();
    if app.guard.is_some() {
        found = without_stashes(app, found);
    }
    found.into_iter().map(|found| row(app, &found)).collect()
}

/// Buffers by who holds them, most first: the functions' names, without those of replicas.
pub(crate) fn holders(app: &App) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<Option<usize>, u64> = BTreeMap::new();
    let of: BTreeMap<u16, usize> = app.replicas().iter().map(|up| (up.holder, up.function)).collect();
    {
        let pool = app.pool.borrow();
        for found in pool.roots() {
            let holder = match found.hold {
                Hold { state: State::InFlight, holder } => {
                    app.edges.borrow().ends(holder).map_or(0, |(_, callee)| callee)
                }
                Hold { holder, .. } => holder,
            };
            *counts.entry(of.get(&holder).copied()).or_default() += 1;
        }
    }
    let name = |function: Option<usize>| function.map_or("node", |index| app.function_name(index)).to_owned();
    let mut held: Vec<_> = counts.into_iter().map(|(function, count)| (name(function), count)).collect();
    held.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    held
}

impl App {
    /// `node`, or `FUNCTION#HOLDER`.
    fn holder_name(&self, holder: u16) -> String {
        if holder == 0 {
            return "node".to_owned();
        }
        match self.replica(holder) {
            Some(replica) => format!("{}#{holder}", self.function_name(replica.function)),
            None => format!("#{holder}"),
        }
    }
}

fn row(app: &App, found: &Capability) -> CapabilityRow {
    let (state, holder) = match found.hold {
        Hold { state: State::InFlight, holder } => {
            let ends = app.edges.borrow().ends(holder);
            let ends = ends.map(|(a, b)| format!("{} -> {}", app.holder_name(a), app.holder_name(b)));
            ("in flight", ends.unwrap_or_else(|| format!("edge {holder}")))
        }
        Hold { state: State::ToNode, holder } => ("to node", format!("{} -> node", app.holder_name(holder))),
        Hold { state: State::FromNode, holder } => {
            ("from node", format!("node -> {}", app.holder_name(holder)))
        }
        Hold { holder, .. } => ("held", app.holder_name(holder)),
    };
    CapabilityRow {
        app: app.name.clone(),
        capability: format!("{}.{}", found.handle.index, found.handle.generation),
        buffer: found.slot,
        holder,
        state: state.to_owned(),
        rights: found.rights.to_string(),
        offset: found.range.offset,
        len: found.range.len,
        parent: found.parent.map(|parent| format!("{}.{}", parent.index, parent.generation)),
        invocation: (found.invocation != 0).then(|| crate::receipts::name(found.invocation)),
    }
}
