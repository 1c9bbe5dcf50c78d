//! Which functions of which app this node hosts: a pure function of what is wanted and who lives.
//!
//! Every node computes it for itself. As all see the same deployments and, a moment apart, the same members, they come to the
//! same end without a word between them.

use std::collections::{BTreeMap, BTreeSet};

use baton_catalog::{AppName, Function, FunctionName, Manifest, Policy};

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
        let hosts = |(name, function): (&FunctionName, &Function)| {
            hosts(&deployment.manifest, function, seats).contains(&node).then(|| name.clone())
        };
        let functions = deployment.manifest.functions.iter();
        (!seats.is_empty()).then(|| functions.filter_map(hosts).collect::<BTreeSet<_>>())
    };
    let place = |(app, deployment): (&AppName, &Deployment)| {
        (app.clone(), Placed { deployment: deployment.clone(), here: here(deployment) })
    };
    wanted.iter().map(place).collect()
}

/// The nodes that host a function: those that it is pinned to, or all, or the one on which its app lies; those that drain only
/// if all of these do.
fn hosts<'a>(manifest: &Manifest, function: &Function, seats: &'a [Seat]) -> Vec<&'a str> {
    let is_pinned = |seat: &&Seat| function.nodes.iter().any(|node| node.as_str() == seat.name);
    let may = seats.iter().filter(|seat| function.nodes.is_empty() || is_pinned(seat));
    let all_drain = may.clone().all(|seat| seat.draining);
    let may = may.filter(|seat| all_drain || !seat.draining).map(|seat| seat.name.as_str());
    if manifest.placement.policy == Policy::Spread || !function.nodes.is_empty() {
        return may.collect();
    }
    // The same node as long as it lives, whoever else comes and goes.
    let weight = |node: &&str| *blake3::hash(format!("{}\n{node}", manifest.app.name).as_bytes()).as_bytes();
    may.max_by_key(weight).into_iter().collect()
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

    #[test]
    fn what_is_pinned_lies_there_and_what_is_packed_lies_together() {
        let seats = [seat("a", false), seat("b", false), seat("c", false)];
        let mut shop = deployment("shop", 1, b"x");
        let here = |shop: &Deployment, seats: &[Seat]| -> Vec<&str> {
            let wanted = BTreeMap::from([(shop.app().clone(), shop.clone())]);
            let hosts = |node: &&str| placed(&wanted, seats, node)["shop"].hosted().count() > 0;
            ["a", "b", "c"].into_iter().filter(hosts).collect()
        };
        assert_eq!(here(&shop, &seats), ["a", "b", "c"]);
        shop.manifest.placement.policy = Policy::Pack;
        let [home] = here(&shop, &seats)[..] else { panic!("it lies on one node") };
        let without: Vec<Seat> = seats.iter().filter(|seat| seat.name != home).cloned().collect();
        let [next] = here(&shop, &without)[..] else { panic!("it lies on another node") };
        let without_third: Vec<Seat> =
            seats.iter().filter(|s| [home, next].contains(&s.name.as_str())).cloned().collect();
        assert_eq!(here(&shop, &without_third), [home], "a third that goes moves nothing");
        for function in shop.manifest.functions.values_mut() {
            function.nodes = vec!["b".parse().unwrap(), "gone".parse().unwrap()];
        }
        assert_eq!(here(&shop, &seats), ["b"]);
    }
}
