//! Which functions of which app this node hosts: a pure function of what is wanted and who lives.
//!
//! Every node computes it for itself. As all see the same deployments and, a moment apart, the same members, they come to the
//! same end without a word between them.

use std::collections::{BTreeMap, BTreeSet};

use baton_catalog::{AppName, FunctionName};

use super::members::Row;
use crate::deploy::Placed;
use crate::store::Deployment;

/// A node as a place for functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) cores: u32,
    pub(super) memory: u64,
    pub(super) draining: bool,
}

impl Seat {
    pub(super) fn of(row: &Row) -> Self {
        let Row { name, cores, memory, draining, .. } = row;
        Self { name: name.clone(), cores: *cores, memory: *memory, draining: *draining }
    }
}

/// What `node` is to run. Where nobody is known to live, it does everything itself: calls have nowhere else to go.
pub(super) fn placed(
    wanted: &BTreeMap<AppName, Deployment>,
    seats: &[Seat],
    node: &str,
) -> BTreeMap<AppName, Placed> {
    let here = |deployment: &Deployment| {
        let functions = deployment.manifest.functions.keys();
        (!seats.is_empty())
            .then(|| functions.filter(|name| assigned(name, seats, node)).cloned().collect::<BTreeSet<_>>())
    };
    let place = |(app, deployment): (&AppName, &Deployment)| {
        (app.clone(), Placed { deployment: deployment.clone(), here: here(deployment) })
    };
    wanted.iter().map(place).collect()
}

/// Whether `node` hosts a function: each is on every node that does not drain, and on all if all do.
fn assigned(_function: &FunctionName, seats: &[Seat], node: &str) -> bool {
    let all_drain = seats.iter().all(|seat| seat.draining);
    seats.iter().any(|seat| seat.name == node && (all_drain || !seat.draining))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::tests::deployment;

    fn seat(name: &str, draining: bool) -> Seat {
        Seat { name: name.to_owned(), cores: 2, memory: 1 << 30, draining }
    }

    fn hosted(seats: &[Seat], node: &str) -> Option<usize> {
        let shop = deployment("shop", 1, b"x");
        let wanted = BTreeMap::from([(shop.app().clone(), shop)]);
        let placed = placed(&wanted, seats, node);
        assert_eq!(placed.len(), 1, "every node has every app");
        placed.into_values().next().and_then(|placed| placed.here).map(|here| here.len())
    }

    #[test]
    fn a_node_that_knows_of_nobody_does_everything() {
        assert_eq!(hosted(&[], "a"), None);
    }

    #[test]
    fn a_node_that_drains_hosts_nothing_while_others_can() {
        let seats = [seat("a", false), seat("b", true)];
        assert_eq!((hosted(&seats, "a"), hosted(&seats, "b")), (Some(1), Some(0)));
        let seats = [seat("a", true), seat("b", true)];
        assert_eq!((hosted(&seats, "a"), hosted(&seats, "b")), (Some(1), Some(1)));
    }
}
