//! Which functions of which app this node hosts: a pure function of what is wanted and who lives.
//!
//! Every node computes it for itself. As all see the same deployments and, a moment apart, the same members, they come to the
//! same end without a word between them.

use std::collections::{BTreeMap, BTreeSet};

use baton_catalog::{AppName, FunctionName, NodeName, Policy};
use baton_placement::{self as placement, Demand, Need, Place, assign};

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

    fn as_place(&self) -> placement::Seat<'_> {
        let Self { name, cores, memory, draining } = self;
        placement::Seat { name, cores: *cores, memory: *memory, draining: *draining }
    }
}

/// What `node` is to run. Where nobody is known to live, it does everything itself: calls have nowhere else to go.
pub(super) fn placed(
    wanted: &BTreeMap<AppName, Deployment>,
    seats: &[Seat],
    node: &str,
) -> BTreeMap<AppName, Placed> {
    if seats.is_empty() {
        let all = |(app, deployment): (&AppName, &Deployment)| {
            (app.clone(), Placed { deployment: deployment.clone(), here: None })
        };
        return wanted.iter().map(all).collect();
    }
    let nodes: Vec<placement::Seat<'_>> = seats.iter().map(Seat::as_place).collect();
    let assigned = |versions: Vec<&Deployment>| {
        let demands: Vec<Demand<'_>> = versions.into_iter().map(demand).collect();
        assign(&demands, &nodes)
    };
    let assignment = assigned(wanted.values().collect());
    let own = seats.iter().position(|seat| seat.name == node);
    let is_here =
        |app: usize, function: usize| own.is_some_and(|own| assignment.is_host(Place { app, function }, own));
    // What only a newer version has goes where it would go if that version were alone.
    let newer = |deployment: &'_ Deployment| deployment.next().is_some();
    let later = wanted.values().any(newer).then(|| {
        assigned(wanted.values().map(|deployment| deployment.next().unwrap_or(deployment)).collect())
    });
    let is_later_here = |app: usize, function: usize| {
        let later = later.as_ref().zip(own);
        later.is_some_and(|(later, own)| later.is_host(Place { app, function }, own))
    };
    let place = |(number, (app, deployment)): (usize, (&AppName, &Deployment))| {
        let functions = deployment.manifest.functions.keys().enumerate();
        let here = functions.filter(|(function, _)| is_here(number, *function));
        let mut here = here.map(|(_, name)| name.clone()).collect::<BTreeSet<FunctionName>>();
        if let Some(next) = deployment.next() {
            let functions = next.manifest.functions.keys().enumerate();
            let added = functions.filter(|(_, name)| !deployment.manifest.functions.contains_key(*name));
            here.extend(
                added.filter(|(place, _)| is_later_here(number, *place)).map(|(_, name)| name.clone()),
            );
        }
        (app.clone(), Placed { deployment: deployment.clone(), here: Some(here) })
    };
    wanted.iter().enumerate().map(place).collect()
}

fn demand(deployment: &Deployment) -> Demand<'_> {
    let manifest = &deployment.manifest;
    let policy = match manifest.placement.policy {
        Policy::Spread => placement::Policy::Spread,
        Policy::Pack => placement::Policy::Pack,
    };
    let functions = manifest.functions.iter().map(|(name, function)| Need {
        name: name.as_str(),
        nodes: function.nodes.iter().map(NodeName::as_str).collect(),
        memory: function.memory.bytes(),
        replicas: function.scale.max.max(1),
    });
    Demand { app: manifest.app.name.as_str(), policy, functions: functions.collect() }
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
    fn functions_go_where_they_are_pinned_and_packed_apps_stay_together() {
        let mut shop = deployment("shop", 1, b"x");
        for function in shop.manifest.functions.values_mut() {
            function.nodes = vec![NodeName::new("b").unwrap()];
        }
        let seats = ["a", "b", "c"].map(|name| seat(name, false));
        let count = |deployment: &Deployment, node| {
            let wanted = BTreeMap::from([(deployment.app().clone(), deployment.clone())]);
            placed(&wanted, &seats, node).into_values().next().unwrap().here.unwrap().len()
        };
        assert_eq!(["a", "b", "c"].map(|node| count(&shop, node)), [0, 1, 0]);
        let mut packed = deployment("packed", 1, b"x");
        packed.manifest.placement.policy = Policy::Pack;
        let mut hosts = ["a", "b", "c"].map(|node| count(&packed, node));
        hosts.sort_unstable();
        assert_eq!(hosts, [0, 0, 1]);
    }
}
