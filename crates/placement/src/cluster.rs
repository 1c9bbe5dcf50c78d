//! Which nodes of a cluster host which functions.
//!
//! Every node computes this for itself, from the deployments and the members that all of them see. So the outcome depends on
//! nothing else: not on the order of what comes in, on the machine, or on what was decided before.
//!
//! ```text
//!   pinned ──────────▶ the named nodes, and no other
//!   policy = spread ─▶ every node, as long as one replica fits into its memory
//!   policy = pack ───▶ beside what is pinned of the app, else where the ring says ─▶ one node does not hold it: as few as do
//! ```
//!
//! A node that drains hosts something only where no other may. What is too large for every node is hosted all the same: memory
//! is what a function may take, not what it takes, and a call that is tried can succeed. Such functions are told apart
//! ([`Assignment::crowded`]), and so are those that nobody may host ([`Assignment::unplaced`]).
//!
//! Capacities are those of the machine. If loads or free memory came in here, functions would move to and fro with them.

use std::cmp::Reverse;
use std::collections::HashMap;

mod pack;
mod ring;
#[cfg(test)]
mod tests;

use pack::Packing;

/// How the functions of an app lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each on every node.
    #[default]
    Spread,
    /// Together, on as few nodes as hold them.
    Pack,
}

/// What one app asks for. Its name is no other app's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The app's name.
    pub app: &'a str,
    /// How its functions lie.
    pub policy: Policy,
    /// Its functions.
    pub functions: Vec<Need<'a>>,
}

/// What one function asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need<'a> {
    /// The function's name, once in its app.
    pub name: &'a str,
    /// The nodes that may host it; none named: any.
    pub nodes: Vec<&'a str>,
    /// Bytes that one replica may take.
    pub memory: u64,
    /// Replicas that it may have. One that may have more than a node has cores is packed on several.
    pub replicas: u32,
}

/// A node that lives. Its name is no other node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Its cores: a node with twice as many is home to twice as many packed apps, and to twice as many replicas of one.
    pub cores: u32,
    /// Bytes of memory that functions may take together.
    pub memory: u64,
    /// Whether it gives its work to others.
    pub draining: bool,
}

/// A function by its place in what [`assign`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index of the app.
    pub app: usize,
    /// Index of the function in the app.
    pub function: usize,
}

/// Why no node hosts a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Homeless {
    /// No node lives.
    NoNode,
    /// None of the nodes that it is pinned to lives.
    NoneOfItsNodes,
}

/// Which nodes host which functions. Apps, functions and nodes are indices into what [`assign`] was given.
#[derive(Clone, Debug)]
pub struct Assignment {
    field: Field,
    hosts: Vec<Vec<Hosts>>,
    unplaced: Vec<(Place, Homeless)>,
    crowded: Vec<Place>,
}

/// The hosts of one function. Ten thousand apps on each of ten thousand nodes must not take a list each.
#[derive(Clone, Debug)]
enum Hosts {
    /// The so many nodes with most memory.
    Largest(usize),
    /// These, in order of name.
    Only(Vec<usize>),
}

/// Decides which nodes host which functions.
#[must_use]
pub fn assign(apps: &[Demand<'_>], nodes: &[Seat<'_>]) -> Assignment {
    let names: HashMap<&str, usize> = nodes.iter().enumerate().map(|(at, node)| (node.name, at)).collect();
    let nowhere = |app: &Demand<'_>| vec![Hosts::Only(Vec::new()); app.functions.len()];
    let mut assignment = Assignment {
        field: Field::new(nodes),
        hosts: apps.iter().map(nowhere).collect(),
        unplaced: Vec::new(),
        crowded: Vec::new(),
    };
    let mut packing = Packing::new(nodes);
    // What is pinned takes its memory before what may go elsewhere.
    for (place, need) in pinned(apps) {
        let hosts = living(need, nodes, &names);
        // Each is booked, also behind one that has no room.
        let tight = hosts.iter().filter(|node| !packing.book(**node, need.memory)).count();
        if tight > 0 {
            assignment.crowded.push(place);
        }
        assignment.put(place, Hosts::Only(hosts), Homeless::NoneOfItsNodes);
    }
    for (app, demand) in apps.iter().enumerate().filter(|(_, demand)| demand.policy == Policy::Spread) {
        let needs = demand.functions.iter().enumerate();
        for (function, need) in needs.filter(|(_, need)| need.nodes.is_empty()) {
            assignment.spread(Place { app, function }, need.memory, nodes);
        }
    }
    packing.pack(apps, &mut assignment);
    assignment.unplaced.sort_unstable_by_key(|(place, _)| *place);
    assignment.crowded.sort_unstable();
    assignment
}

/// All functions that are pinned. Which of them a node still has room for must not hang on the input's order, so: by name.
fn pinned<'d>(apps: &'d [Demand<'_>]) -> Vec<(Place, &'d Need<'d>)> {
    let mut all = Vec::new();
    for (app, demand) in apps.iter().enumerate() {
        let needs = demand.functions.iter().enumerate().filter(|(_, need)| !need.nodes.is_empty());
        all.extend(needs.map(|(function, need)| (demand.app, Place { app, function }, need)));
    }
    all.sort_unstable_by_key(|(app, _, need)| (*app, need.name));
    all.into_iter().map(|(_, place, need)| (place, need)).collect()
}

/// The nodes of a pinned function: those of its list that live; those that drain only if all of them do.
fn living(need: &Need<'_>, nodes: &[Seat<'_>], names: &HashMap<&str, usize>) -> Vec<usize> {
    let mut named: Vec<&str> = need.nodes.clone();
    named.sort_unstable();
    named.dedup();
    let mut hosts: Vec<usize> = named.iter().filter_map(|name| names.get(name).copied()).collect();
    let drains = |node: &usize| nodes.get(*node).is_some_and(|node| node.draining);
    if !hosts.iter().all(drains) {
        hosts.retain(|node| !drains(node));
    }
    hosts
}

impl Assignment {
    /// The nodes that host a function; none if it is unknown or nobody may host it.
    #[must_use]
    pub fn hosts(&self, place: Place) -> &[usize] {
        match self.hosts.get(place.app).and_then(|functions| functions.get(place.function)) {
            Some(Hosts::Largest(count)) => self.field.by_size.get(..*count).unwrap_or_default(),
            Some(Hosts::Only(nodes)) => nodes,
            None => &[],
        }
    }

    /// Whether a node hosts a function, without a look through its hosts if these are all nodes.
    #[must_use]
    pub fn is_host(&self, place: Place, node: usize) -> bool {
        match self.hosts.get(place.app).and_then(|functions| functions.get(place.function)) {
            Some(Hosts::Largest(count)) => {
                self.field.rank.get(node).copied().flatten().is_some_and(|rank| rank < *count)
            }
            Some(Hosts::Only(nodes)) => nodes.contains(&node),
            None => false,
        }
    }

    /// What a node hosts, in order.
    pub fn hosted_by(&self, node: usize) -> impl Iterator<Item = Place> {
        let places =
            self.hosts.iter().enumerate().flat_map(|(app, functions)| {
                (0..functions.len()).map(move |function| Place { app, function })
            });
        places.filter(move |place| self.is_host(*place, node))
    }

    /// Functions that nobody hosts, in order, and why.
    #[must_use]
    pub fn unplaced(&self) -> &[(Place, Homeless)] {
        &self.unplaced
    }

    /// Functions with a host whose memory does not hold them beside what else lies there, in order.
    #[must_use]
    pub fn crowded(&self) -> &[Place] {
        &self.crowded
    }

    fn put(&mut self, place: Place, hosts: Hosts, otherwise: Homeless) {
        let none = match &hosts {
            Hosts::Largest(count) => *count == 0,
            Hosts::Only(nodes) => nodes.is_empty(),
        };
        if none {
            let why = if self.field.is_empty() { Homeless::NoNode } else { otherwise };
            self.unplaced.push((place, why));
        }
        if let Some(slot) = self.hosts.get_mut(place.app).and_then(|row| row.get_mut(place.function)) {
            *slot = hosts;
        }
    }

    /// Puts a function on every node that is large enough for it; on all, if none is.
    fn spread(&mut self, place: Place, memory: u64, nodes: &[Seat<'_>]) {
        let holds = |node: &usize| nodes.get(*node).is_some_and(|node| node.memory >= memory);
        let mut count = self.field.by_size.partition_point(holds);
        if count == 0 && !self.field.is_empty() {
            count = self.field.by_size.len();
            self.crowded.push(place);
        }
        self.put(place, Hosts::Largest(count), Homeless::NoNode);
    }
}

/// The nodes that may host what is not pinned: those that do not drain, or all if all drain.
#[derive(Clone, Debug)]
struct Field {
    /// Those with most memory first; equals by name.
    by_size: Vec<usize>,
    /// The place of each node among these.
    rank: Vec<Option<usize>>,
}

impl Field {
    fn new(nodes: &[Seat<'_>]) -> Self {
        let all_drain = nodes.iter().all(|node| node.draining);
        let serves = |(_, node): &(usize, &Seat<'_>)| all_drain || !node.draining;
        let mut serving: Vec<(usize, &Seat<'_>)> = nodes.iter().enumerate().filter(serves).collect();
        serving.sort_unstable_by_key(|(_, node)| (Reverse(node.memory), node.name));
        let by_size: Vec<usize> = serving.iter().map(|(at, _)| *at).collect();
        let mut rank = vec![None; nodes.len()];
        for (place, &node) in by_size.iter().enumerate() {
            if let Some(rank) = rank.get_mut(node) {
                *rank = Some(place);
            }
        }
        Self { by_size, rank }
    }

    fn is_empty(&self) -> bool {
        self.by_size.is_empty()
    }

    /// Whether a node may host what is not pinned.
    fn serves(&self, node: usize) -> bool {
        self.rank.get(node).is_some_and(Option::is_some)
    }
}
