//! What passed between an app's functions, by what the callers' sides say: figures to look at, by which nothing is decided.
//!
//! Over an edge the caller's SDK or cell counts in the edge's own page; inside a cell the runtime counts in the link of the
//! caller's seat, one row for each seat. What ends leaves its sums here.

use std::collections::BTreeMap;

use baton_pool::figures::{Counted, Figures};

use crate::app::App;
use crate::replica::Replica;
use crate::status::EdgeStatus;

/// Sums by caller and callee, as indices of functions.
pub(crate) type Sums = BTreeMap<(usize, usize), Counted>;

/// Adds to the sum of one pair.
pub(crate) fn add(sums: &mut Sums, between: (usize, usize), counted: Counted) {
    if counted.calls > 0 {
        let sum = sums.entry(between).or_default();
        *sum = sum.plus(counted);
    }
}

/// What one replica's link says of calls inside its cell.
fn add_rows(app: &App, replica: &Replica, sums: &mut Sums) {
    let Some(group) = app.group_of(replica.function) else { return };
    let peer = replica.peer.borrow();
    let rows: Vec<Counted> = peer.rows().iter().map(Figures::counted).collect();
    for (&callee, counted) in group.seats.iter().zip(rows) {
        add(sums, (replica.function, callee), counted);
    }
}

/// A replica is gone: what passed inside its cell is kept.
pub(crate) fn keep(app: &App, replica: &Replica) {
    add_rows(app, replica, app.edges.borrow_mut().gone());
}

/// All edges over which something passed.
pub(crate) fn edges(app: &App) -> Vec<EdgeStatus> {
    let mut sums = app.edges.borrow().sums();
    for replica in app.replicas() {
        add_rows(app, &replica, &mut sums);
    }
    let gateway = app.functions.iter().map(|state| ("gateway", state.name.as_str(), state.tally.gateway()));
    let between = sums
        .iter()
        .map(|(&(caller, callee), counted)| (app.function_name(caller), app.function_name(callee), *counted));
    let passed = gateway.chain(between).filter(|(.., counted)| counted.calls > 0);
    passed
        .map(|(caller, callee, counted)| EdgeStatus {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            calls: counted.calls,
            errors: counted.errors,
            bytes_handed: counted.bytes,
            busy_ns: counted.busy_ns(),
        })
        .collect()
}
