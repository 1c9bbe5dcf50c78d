//! A new cell: numbers, links and edges for each of its seats.

use std::rc::Rc;

use baton_abi::cell::{ANY_CORE, Seat};
use baton_placement::home_core;
use baton_replica::{Cell, Peer};

use super::Group;
use crate::app::App;
use crate::replica::Replica;
use crate::start::{all_cores, free_numbers, ring_entries};

/// Has the group's template fork a cell for `place`. Its replicas are up once it says so; until then they have their
/// places and edges, and nothing is given to them.
pub(super) fn fork(
    app: &Rc<App>,
    group: &Group,
    place: usize,
) -> Result<(Rc<Cell>, Vec<Rc<Replica>>), String> {
    let numbers = free_numbers(app, group.seats.len()).ok_or("as many replicas are up as an app may have")?;
    let mut seats = Vec::new();
    for (state, &(holder, arena)) in app.of_group(group).zip(&numbers) {
        let derived_base = app.pool.borrow_mut().derived_base(arena);
        seats.push(Seat { holder, derived_base, ring_entries: ring_entries(&state.spec) });
    }
    let number = group.next_cell.get();
    group.next_cell.set(number.wrapping_add(1));
    let core = core(app, place);
    let forked = match group.template.borrow().as_ref() {
        Some(template) => template.fork(number, core, &seats),
        None => return Err("its template is gone".to_owned()),
    };
    let (cell, peers) = forked.map_err(|error| error.to_string())?;
    group.cells.borrow_mut().insert(number, Rc::clone(&cell));
    let seated = group.seats.iter().zip(numbers).zip(peers);
    let replicas: Vec<Rc<Replica>> =
        seated.map(|((&function, numbers), peer)| sit(app, function, place, numbers, peer)).collect();
    Ok((cell, replicas))
}

/// A replica in its place.
fn sit(app: &Rc<App>, function: usize, place: usize, (holder, arena): (u16, u32), peer: Peer) -> Rc<Replica> {
    let replica = Rc::new(Replica::new(app, function, holder, arena, peer));
    if let Some(state) = app.functions.get(function)
        && let Some(slot) = state.replicas.borrow_mut().get_mut(place)
    {
        *slot = Some(Rc::clone(&replica));
    }
    replica
}

/// A whole cell lives on one core.
fn core(app: &App, place: usize) -> u32 {
    let cores = match app.node.options.cores.as_slice() {
        [] => all_cores(),
        some => some.to_vec(),
    };
    u32::try_from(home_core(app.index, place, &cores)).unwrap_or(ANY_CORE)
}
