//! Assignments against what they promise, over clusters of all kinds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// An app whose names outlive what borrows them.
#[derive(Clone, Debug)]
struct App {
    name: String,
    policy: Policy,
    functions: Vec<Function>,
}

#[derive(Clone, Debug)]
struct Function {
    name: String,
    pins: Vec<String>,
    memory: u64,
    replicas: u32,
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    cores: u32,
    memory: u64,
    draining: bool,
}

#[derive(Clone, Debug)]
struct Town {
    apps: Vec<App>,
    nodes: Vec<Node>,
}

/// The hosts of each function, by name.
type Map = BTreeMap<(String, String), BTreeSet<String>>;

fn need(function: &Function) -> Need<'_> {
    let nodes = function.pins.iter().map(String::as_str).collect();
    Need { name: &function.name, nodes, memory: function.memory, replicas: function.replicas }
}

fn demand(app: &App) -> Demand<'_> {
    Demand { app: &app.name, policy: app.policy, functions: app.functions.iter().map(need).collect() }
}

fn seat(node: &Node) -> Seat<'_> {
    Seat { name: &node.name, cores: node.cores, memory: node.memory, draining: node.draining }
}

impl Town {
    fn assign(&self) -> Assignment {
        let apps: Vec<Demand<'_>> = self.apps.iter().map(demand).collect();
        let nodes: Vec<Seat<'_>> = self.nodes.iter().map(seat).collect();
        assign(&apps, &nodes)
    }

    fn functions(&self) -> impl Iterator<Item = (Place, &App, &Function)> {
        self.apps.iter().enumerate().flat_map(|(at, app)| {
            let place = move |function| Place { app: at, function };
            app.functions.iter().enumerate().map(move |(function, it)| (place(function), app, it))
        })
    }

    fn map(&self) -> Map {
        let assignment = self.assign();
        let names = |nodes: &[usize]| nodes.iter().map(|&node| self.nodes[node].name.clone()).collect();
        let key = |app: &App, function: &Function| (app.name.clone(), function.name.clone());
        self.functions().map(|(place, app, it)| (key(app, it), names(assignment.hosts(place)))).collect()
    }

    fn named(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// A town of apps with one policy, without pins, on nodes alike.
fn plain(policy: Policy, apps: usize, functions: usize, nodes: usize, memory: u64) -> Town {
    let function = |at: usize| Function { name: format!("f{at}"), pins: Vec::new(), memory: 10, replicas: 1 };
    let app = |at: usize| App {
        name: format!("app{at}"),
        policy,
        functions: (0..functions).map(function).collect(),
    };
    let node = |at: usize| Node { name: format!("node{at}"), cores: 4, memory, draining: false };
    Town { apps: (0..apps).map(app).collect(), nodes: (0..nodes).map(node).collect() }
}

fn any_town(nodes: std::ops::Range<usize>) -> impl Strategy<Value = Town> {
    // Some pins name nodes that do not live.
    let pins = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0..14_usize, 1..4)];
    let function = (pins, 0..60_u64, 0..12_u32);
    let app = (any::<bool>(), prop::collection::vec(function, 0..6));
    let node = (0..9_u32, 0..150_u64, prop::bool::weighted(0.25));
    (prop::collection::vec(app, 0..12), prop::collection::vec(node, nodes)).prop_map(|(apps, nodes)| Town {
        apps: apps
            .into_iter()
            .enumerate()
            .map(|(at, (pack, functions))| named_app(at, pack, functions))
            .collect(),
        nodes: (nodes.into_iter().enumerate())
            .map(|(at, (cores, memory, draining))| Node { name: format!("n{at}"), cores, memory, draining })
            .collect(),
    })
}

/// Pins, memory and replicas of a function.
type Drawn = (Vec<usize>, u64, u32);

fn named_app(at: usize, pack: bool, functions: Vec<Drawn>) -> App {
    let function = |(at, (pins, memory, replicas)): (usize, Drawn)| Function {
        name: format!("f{at}"),
        pins: pins.into_iter().map(|pin| format!("n{pin}")).collect(),
        memory,
        replicas,
    };
    App {
        name: format!("a{at}"),
        policy: if pack { Policy::Pack } else { Policy::Spread },
        functions: functions.into_iter().enumerate().map(function).collect(),
    }
}

#[test]
fn a_packed_app_lies_on_one_node_and_a_spread_one_on_all() {
    let packed = plain(Policy::Pack, 1, 5, 8, 50).map();
    let hosts: BTreeSet<_> = packed.values().collect();
    assert!(hosts.len() == 1 && hosts.iter().all(|hosts| hosts.len() == 1), "{packed:?}");
    let spread = plain(Policy::Spread, 1, 5, 8, 50).map();
    assert!(spread.values().all(|hosts| hosts.len() == 8), "{spread:?}");
}

#[test]
fn an_app_that_no_node_holds_lies_on_as_few_as_do() {
    for (functions, memory) in [(10, 40), (9, 25), (30, 100), (7, 10)] {
        let town = plain(Policy::Pack, 1, functions, 12, memory);
        let assignment = town.assign();
        let nodes: BTreeSet<usize> =
            town.functions().flat_map(|(place, ..)| assignment.hosts(place).to_vec()).collect();
        let fewest = functions.div_ceil(usize::try_from(memory / 10).unwrap());
        assert_eq!(nodes.len(), fewest, "{functions} functions on nodes of {memory}");
        assert!(assignment.crowded().is_empty());
    }
}

#[test]
fn an_app_that_may_have_more_replicas_than_a_node_has_cores_lies_on_several() {
    for (replicas, memory, nodes) in [(4, 1000, 1), (5, 1000, 2), (12, 1000, 3), (4, 20, 2), (100, 1000, 12)]
    {
        let mut town = plain(Policy::Pack, 1, 1, 12, memory);
        town.apps[0].functions[0].replicas = replicas;
        let assignment = town.assign();
        let hosts = assignment.hosts(Place { app: 0, function: 0 }).len();
        assert_eq!(hosts, nodes, "{replicas} replicas on nodes of {memory}");
    }
}

#[test]
fn what_is_packed_lies_beside_what_is_pinned() {
    for at in 0..8 {
        let mut town = plain(Policy::Pack, 1, 4, 8, 1000);
        town.apps[0].functions[2].pins = vec![format!("node{at}")];
        let only = BTreeSet::from([format!("node{at}")]);
        assert!(town.map().values().all(|hosts| *hosts == only));
    }
}

#[test]
fn what_nobody_may_host_is_told_apart() {
    let mut town = plain(Policy::Spread, 1, 2, 1, 1000);
    town.apps[0].functions[1].pins = vec!["gone".into()];
    let place = |function| Place { app: 0, function };
    assert_eq!(town.assign().unplaced(), [(place(1), Homeless::NoneOfItsNodes)]);
    town.nodes.clear();
    assert_eq!(town.assign().unplaced(), [(place(0), Homeless::NoNode), (place(1), Homeless::NoNode)]);
}

#[test]
fn a_full_cluster_hosts_what_comes_and_says_so() {
    for policy in [Policy::Pack, Policy::Spread] {
        let town = plain(policy, 3, 2, 2, 5);
        let assignment = town.assign();
        assert!(assignment.unplaced().is_empty());
        assert_eq!(assignment.crowded().len(), 6, "{policy:?}");
    }
}

#[test]
fn apps_are_dealt_out_evenly() {
    let town = plain(Policy::Pack, 2000, 1, 20, 1_000_000);
    let assignment = town.assign();
    for node in 0..20 {
        let count = assignment.hosted_by(node).count();
        assert!((40..=180).contains(&count), "node {node} hosts {count} apps instead of about 100");
    }
}

/// Functions whose hosts differ.
fn moved(before: &Map, after: &Map) -> usize {
    before.iter().filter(|(key, hosts)| after.get(*key) != Some(hosts)).count()
}

#[test]
fn a_tight_cluster_moves_little_more_than_what_it_must() {
    // Nine tenths full: what leaves a node takes room that others would have had.
    let town = plain(Policy::Pack, 360, 1, 40, 100);
    let before = town.map();
    let mut most = 0;
    for gone in 0..40 {
        let mut smaller = town.clone();
        smaller.nodes.remove(gone);
        most = most.max(moved(&before, &smaller.map()));
    }
    // Its own nine or ten functions, and those that these displace.
    assert!(most <= 60, "{most} of 360 functions moved when one of 40 nodes went");
}

proptest! {
    #[test]
    fn the_order_of_what_comes_in_does_not_matter(town in any_town(0..12), seed in any::<u64>()) {
        let mut shuffled = town.clone();
        let mut state = seed;
        let mut turn = |len: usize| {
            state = ring::hash(&state.to_string());
            usize::try_from(state % (len as u64).max(1)).unwrap()
        };
        for app in &mut shuffled.apps {
            let by = turn(app.functions.len());
            app.functions.rotate_left(by);
            app.functions.iter_mut().for_each(|function| function.pins.reverse());
        }
        for at in 0..shuffled.apps.len() {
            let other = turn(shuffled.apps.len());
            shuffled.apps.swap(at, other);
        }
        for at in 0..shuffled.nodes.len() {
            let other = turn(shuffled.nodes.len());
            shuffled.nodes.swap(at, other);
        }
        prop_assert_eq!(town.map(), shuffled.map());
        prop_assert_eq!(town.assign().crowded().len(), shuffled.assign().crowded().len());
    }

    #[test]
    fn every_function_is_hosted_if_any_node_may(town in any_town(0..12)) {
        let assignment = town.assign();
        let steady: Vec<&Node> = town.nodes.iter().filter(|node| !node.draining).collect();
        for (place, app, function) in town.functions() {
            let hosts: Vec<&Node> = assignment.hosts(place).iter().map(|&node| &town.nodes[node]).collect();
            let living: Vec<&Node> = function.pins.iter().filter_map(|pin| town.named(pin)).collect();
            let may = if function.pins.is_empty() { !town.nodes.is_empty() } else { !living.is_empty() };
            prop_assert_eq!(!hosts.is_empty(), may);
            prop_assert_eq!(assignment.unplaced().iter().any(|(it, _)| *it == place), !may);
            // On its pins and all of them, or by its policy; on those that drain only if all do.
            let mut expect: BTreeSet<&str> = BTreeSet::new();
            let steady_pins = living.iter().any(|node| !node.draining);
            if !function.pins.is_empty() {
                expect.extend(living.iter().filter(|n| !steady_pins || !n.draining).map(|n| n.name.as_str()));
            } else if app.policy == Policy::Spread {
                let all: Vec<&Node> = town.nodes.iter().collect();
                let field = if steady.is_empty() { &all } else { &steady };
                let large = |node: &&&Node| node.memory >= function.memory;
                expect.extend(field.iter().filter(large).map(|node| node.name.as_str()));
                if expect.is_empty() {
                    expect.extend(field.iter().map(|node| node.name.as_str()));
                }
            } else {
                prop_assert!(hosts.len() <= function.replicas.max(1) as usize);
                prop_assert!(steady.is_empty() || hosts.iter().all(|node| !node.draining));
                continue;
            }
            prop_assert_eq!(hosts.iter().map(|node| node.name.as_str()).collect::<BTreeSet<_>>(), expect);
        }
    }

    #[test]
    fn memory_is_kept_or_the_function_told_apart(town in any_town(1..12)) {
        let assignment = town.assign();
        let mut left: Vec<u64> = town.nodes.iter().map(|node| node.memory).collect();
        for (place, app, function) in town.functions() {
            let crowded = assignment.crowded().binary_search(&place).is_ok();
            let booked = !function.pins.is_empty() || app.policy == Policy::Pack;
            for &node in assignment.hosts(place).iter().filter(|_| booked && !crowded) {
                prop_assert!(left[node] >= function.memory);
                left[node] -= function.memory;
            }
        }
    }

    #[test]
    fn both_directions_agree(town in any_town(0..12)) {
        let assignment = town.assign();
        for node in 0..town.nodes.len() {
            let hosted: BTreeSet<Place> = assignment.hosted_by(node).collect();
            for (place, ..) in town.functions() {
                prop_assert_eq!(assignment.hosts(place).contains(&node), hosted.contains(&place));
                prop_assert_eq!(assignment.is_host(place, node), hosted.contains(&place));
            }
        }
    }

    /// With memory to spare, what moves is what was on the node that went (or would be on the one that comes), and no more.
    #[test]
    fn only_what_must_move_moves(nodes in 2..30_usize, gone in any::<prop::sample::Index>(), drains in any::<bool>()) {
        let town = plain(Policy::Pack, 60, 3, nodes, u64::MAX);
        let gone = gone.index(nodes);
        let mut smaller = town.clone();
        if drains {
            smaller.nodes[gone].draining = true;
        } else {
            smaller.nodes.remove(gone);
        }
        let (large, small) = (town.map(), smaller.map());
        for (key, hosts) in &large {
            let was_there = hosts.contains(&town.nodes[gone].name);
            prop_assert_eq!(small[key] != *hosts, was_there);
        }
    }
}
