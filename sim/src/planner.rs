//! How long the planner takes for one change of the cluster, and how much moves.

use std::time::Instant;

use baton_placement::{Assignment, Demand, Place, Policy, Seat, assign};
use serde::Serialize;

use crate::workload::{self, App};
use crate::world::{CORES, MEMORY, demands};

/// Plans that are timed; the median counts.
const ROUNDS: usize = 5;
/// Nodes that go, one at a time, to see what moves.
const DEPARTURES: usize = 10;

/// One size of cluster under one policy.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) nodes: u32,
    pub(crate) apps: u32,
    pub(crate) functions: usize,
    pub(crate) policy: &'static str,
    /// Milliseconds of one plan.
    pub(crate) plan_ms: f64,
    /// … of one by rendezvous hashing, which asks every node for every app.
    pub(crate) rendezvous_ms: Option<f64>,
    /// Functions that get a new host when a node goes, on average, and what the average node hosts.
    pub(crate) moved: f64,
    pub(crate) even_share: f64,
    /// Nodes that host something, and the most that one hosts.
    pub(crate) nodes_used: usize,
    pub(crate) most_on_a_node: usize,
    pub(crate) crowded: usize,
}

/// Times plans of all sizes.
pub(crate) fn measure(nodes: &[u32], apps: &[u32], seed: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for &apps in apps {
        let drawn = workload::apps(apps, f64::from(CORES), 0.5, seed);
        for &nodes in nodes {
            for policy in [Policy::Spread, Policy::Pack] {
                rows.push(row(nodes, &drawn, policy));
            }
        }
    }
    rows
}

fn row(nodes: u32, apps: &[App], policy: Policy) -> Row {
    let names: Vec<String> = (0..nodes).map(|node| format!("node-{node}")).collect();
    let seat = |name| Seat { name, cores: CORES, memory: MEMORY, draining: false };
    let seats: Vec<Seat<'_>> = names.iter().map(|name| seat(name.as_str())).collect();
    let demands = demands(apps, policy);
    let plan_ms = median(|| assign(&demands, &seats));
    let packs = policy == Policy::Pack;
    let rendezvous_ms = packs.then(|| median(|| rendezvous(apps, &names)));

    let before = assign(&demands, &seats);
    let places: Vec<Place> = (apps.iter().enumerate())
        .flat_map(|(app, it)| (0..it.functions.len()).map(move |function| Place { app, function }))
        .collect();
    let step = seats.len() / DEPARTURES;
    let moved =
        (0..DEPARTURES).map(|turn| moved(&demands, &seats, &before, &places, turn * step)).sum::<usize>();
    let counts = hosted(&before, &places, seats.len());
    let hosts = counts.iter().sum::<usize>();
    Row {
        nodes,
        apps: u32::try_from(apps.len()).unwrap_or(u32::MAX),
        functions: places.len(),
        policy: if packs { "pack" } else { "spread" },
        plan_ms,
        rendezvous_ms,
        moved: moved as f64 / DEPARTURES as f64,
        even_share: hosts as f64 / f64::from(nodes),
        nodes_used: counts.iter().filter(|count| **count > 0).count(),
        most_on_a_node: counts.iter().copied().max().unwrap_or_default(),
        crowded: before.crowded().len(),
    }
}

/// Places of functions on nodes that are new once a node has gone.
fn moved(
    demands: &[Demand<'_>],
    seats: &[Seat<'_>],
    before: &Assignment,
    places: &[Place],
    gone: usize,
) -> usize {
    let left: Vec<Seat<'_>> =
        seats.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, seat)| *seat).collect();
    let after = assign(demands, &left);
    let number_before = |node: usize| if node >= gone { node + 1 } else { node };
    let new = |place: &Place| {
        let hosts = after.hosts(*place).iter().map(|node| number_before(*node));
        hosts.filter(|node| !before.is_host(*place, *node)).count()
    };
    places.iter().map(new).sum()
}

/// Functions on each node.
fn hosted(assignment: &Assignment, places: &[Place], nodes: usize) -> Vec<usize> {
    let mut counts = vec![0; nodes];
    for place in places {
        for &host in assignment.hosts(*place) {
            if let Some(count) = counts.get_mut(host) {
                *count += 1;
            }
        }
    }
    counts
}

/// The node with the highest hash for each app. The yardstick of the ring, with the cheapest hash that will do.
fn rendezvous(apps: &[App], names: &[String]) -> Vec<usize> {
    let fold = |text: &str| {
        text.bytes().fold(0_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    };
    let nodes: Vec<u64> = names.iter().map(|name| fold(name)).collect();
    let score = |app: u64, node: u64| {
        let word = (app ^ node).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word ^ (word >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let best =
        |app: u64| (0..).zip(&nodes).max_by_key(|(_, node)| score(app, **node)).map_or(0, |(at, _)| at);
    apps.iter().map(|app| best(fold(&app.name))).collect()
}

/// The median time of `work` in milliseconds.
fn median<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(work());
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(ROUNDS / 2).copied().unwrap_or_default()
}
