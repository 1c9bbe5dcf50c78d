//! What passed between an app's functions: figures to look at, by which nothing is decided.
//!
//! Where the kernel hands over, it counts calls, bytes and refusals; the rest the callers' sides say.
//! Over an edge the caller's SDK or cell counts in the edge's own page; inside a cell the runtime counts in the link of the
//! caller's seat, one row for each seat. What ends leaves its sums here.

use std::collections::BTreeMap;

use baton_pool::figures::{Counted, Figures};

use crate::app::App;
use crate::replica::Replica;
use crate::status::EdgeStatus;

/// Sums by caller and callee, as indices of functions.
pub(crate) type Sums = BTreeMap<(usize, usize), Passed>;

/// What passed between two functions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    counted: Counted,
    is_by_kernel: bool,
    refusals: u64,
}

/// What the kernel counted of an edge.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByKernel {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    pub(crate) refusals: u64,
}

/// Adds to the sum of one pair what the caller's side says.
pub(crate) fn add(sums: &mut Sums, between: (usize, usize), counted: Counted) {
    if counted.calls > 0 {
        let sum = sums.entry(between).or_default();
        sum.counted = sum.counted.plus(counted);
    }
}

/// The same where the kernel knows better.
pub(crate) fn add_by_kernel(
    sums: &mut Sums,
    between: (usize, usize),
    said: Counted,
    ByKernel { calls, bytes, refusals }: ByKernel,
) {
    if calls == 0 && refusals == 0 {
        return;
    }
    let sum = sums.entry(between).or_default();
    sum.is_by_kernel = true;
    sum.counted = sum.counted.plus(Counted { calls, bytes, ..said });
    sum.refusals = sum.refusals.saturating_add(refusals);
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
    let mut sums = app.edges.borrow().sums(app.guard.as_deref());
    for replica in app.replicas() {
        add_rows(app, &replica, &mut sums);
    }
    let gateway = app.functions.iter().map(|state| {
        ("gateway", state.name.as_str(), Passed { counted: state.tally.gateway(), ..Passed::default() })
    });
    let between = sums
        .into_iter()
        .map(|((caller, callee), passed)| (app.function_name(caller), app.function_name(callee), passed));
    let passed =
        gateway.chain(between).filter(|(.., passed)| passed.counted.calls > 0 || passed.refusals > 0);
    passed
        .map(|(caller, callee, Passed { counted, is_by_kernel, refusals })| EdgeStatus {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
            calls: counted.calls,
            errors: counted.errors,
            bytes_handed: counted.bytes,
            busy_ns: counted.busy_ns(),
            by_kernel: is_by_kernel,
            refusals,
        })
        .collect()
}
