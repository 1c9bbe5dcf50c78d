//! How long the planner takes for one change of the cluster, and how much moves.

use std::time::Instant;

use baton_placement::{Assignment, Place, Policy, Seat, assign};
use serde::Serialize;

use crate::workload::{self, App};
use crate::world::{CORES, MEMORY, demands};

/// Plans that are timed; the median counts.
const ROUNDS: usize = 5;

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
    /// Functions that a change of one node moves, and what it would be if all were dealt out evenly.
    pub(crate) moved: usize,
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
    // The last but one goes: nobody else's place in the list depends on it but the last's.
    let gone = seats.len() / 2;
    let after: Vec<Seat<'_>> =
        seats.iter().copied().enumerate().filter(|(at, _)| *at != gone).map(|(_, s)| s).collect();
    let after = assign(&demands, &after);
    let places = apps
        .iter()
        .enumerate()
        .flat_map(|(app, it)| (0..it.functions.len()).map(move |function| Place { app, function }));
    let places: Vec<Place> = places.collect();
    let shifted = |node: usize| if node >= gone { node + 1 } else { node };
    let stays = |place: Place| match policy {
        // Everywhere before and after: only what was on the node that went is gone.
        Policy::Spread => true,
        Policy::Pack => {
            before.hosts(place).first() == after.hosts(place).first().map(|n| shifted(*n)).as_ref()
        }
    };
    let moved = places.iter().filter(|place| !stays(**place)).count();
    let counts = hosted(&before, &places, seats.len());
    Row {
        nodes,
        apps: u32::try_from(apps.len()).unwrap_or(u32::MAX),
        functions: places.len(),
        policy: if packs { "pack" } else { "spread" },
        plan_ms,
        rendezvous_ms,
        moved,
        even_share: if packs { places.len() as f64 / f64::from(nodes) } else { 0.0 },
        nodes_used: counts.iter().filter(|count| **count > 0).count(),
        most_on_a_node: counts.iter().copied().max().unwrap_or_default(),
        crowded: before.crowded().len(),
    }
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
