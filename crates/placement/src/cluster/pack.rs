//! Apps whose functions lie together.
//!
//! Large apps choose first, since small ones still fit into what is left. An app takes the first node that holds all of it, every
//! function with as many replicas as it may have: of those that host its pinned functions, then of those that it meets on the ring,
//! then the roomiest of all.
//!
//! ```text
//!   a node holds it all ─────────────▶ that node
//!   nodes hold it once or more ──────▶ as it meets them, until they hold as many replicas as it may have
//!   no node holds one replica of each ▶ function by function, the largest first: to a node that the app has already, else to the
//!                                      roomiest that it meets
//! ```
//!
//! Memory is given out, cores are not: apps take turns on them. But no app counts on more replicas on a node than that has
//! cores.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::ring::Ring;
use super::{Assignment, Demand, Field, Homeless, Hosts, Need, Place, Policy, Seat};

/// Nodes that an app asks on the ring. A cluster so full that none of these has room is looked through by room instead; without
/// this bound, every app would walk past every node.
const WALK_MAX: usize = 32;

/// What is left of each node's memory.
pub(super) struct Packing<'a> {
    nodes: &'a [Seat<'a>],
    free: Vec<u64>,
}

impl<'a> Packing<'a> {
    pub(super) fn new(nodes: &'a [Seat<'a>]) -> Self {
        Self { nodes, free: nodes.iter().map(|node| node.memory).collect() }
    }

    /// Takes memory of a node; whether it had as much.
    pub(super) fn book(&mut self, node: usize, memory: u64) -> bool {
        let Some(free) = self.free.get_mut(node) else { return false };
        let fits = *free >= memory;
        *free = free.saturating_sub(memory);
        fits
    }

    /// Puts every function that is packed and not pinned on nodes.
    pub(super) fn pack(self, apps: &[Demand<'_>], assignment: &mut Assignment) {
        let packed = apps.iter().enumerate().filter(|(_, demand)| demand.policy == Policy::Pack);
        let mut order: Vec<(Parcel<'_>, usize)> =
            packed.map(|(app, demand)| (Parcel::new(demand), app)).collect();
        if order.is_empty() {
            return;
        }
        order.sort_unstable_by_key(|(parcel, _)| (Reverse(parcel.all), parcel.app));
        let field = assignment.field.clone();
        let mut market = Market::new(self, &field);
        for (parcel, app) in order {
            let Some(demand) = apps.get(app) else { continue };
            let beside = market.beside(app, demand, assignment);
            for Settled { function, hosts, fits } in market.settle(&parcel, &beside) {
                let place = Place { app, function };
                if !fits {
                    assignment.crowded.push(place);
                }
                assignment.put(place, Hosts::Only(hosts), Homeless::NoNode);
            }
        }
    }
}

/// What an app wants to have together.
struct Parcel<'d> {
    app: &'d str,
    /// Its functions that are not pinned, the largest first.
    needs: Vec<(usize, &'d Need<'d>)>,
    /// Replicas that the function with most may have.
    replicas: u32,
    /// Bytes of all replicas.
    all: u64,
}

/// Where a function goes, and whether there is room for it.
struct Settled {
    function: usize,
    hosts: Vec<usize>,
    fits: bool,
}

impl<'d> Parcel<'d> {
    fn new(demand: &'d Demand<'d>) -> Self {
        let needs = demand.functions.iter().enumerate().filter(|(_, need)| need.nodes.is_empty());
        let mut needs: Vec<(usize, &Need<'_>)> = needs.collect();
        needs.sort_unstable_by_key(|(_, need)| (Reverse(need.memory), need.name));
        let replicas = needs.iter().map(|(_, need)| need.replicas.max(1)).max().unwrap_or(1);
        let mut parcel = Self { app: demand.app, needs, replicas, all: 0 };
        parcel.all = parcel.memory(replicas);
        parcel
    }

    /// Bytes of so many replicas of each function, or as many as it may have.
    fn memory(&self, replicas: u32) -> u64 {
        let bytes =
            |need: &Need<'_>| need.memory.saturating_mul(need.replicas.clamp(1, replicas.max(1)).into());
        self.needs.iter().fold(0, |sum, (_, need)| sum.saturating_add(bytes(need)))
    }
}

/// The nodes, by their place on the ring and by the room that they have left.
struct Market<'a, 'f> {
    packing: Packing<'a>,
    ring: Ring<'f>,
    /// Free bytes and rank of every node; the roomiest is last, of equals the first by rank.
    by_room: BTreeSet<(u64, Reverse<usize>)>,
    field: &'f Field,
}

impl<'a, 'f> Market<'a, 'f> {
    fn new(packing: Packing<'a>, field: &'f Field) -> Self {
        let ring = Ring::new(packing.nodes, &field.by_size);
        let free = |node: usize| packing.free.get(node).copied().unwrap_or_default();
        let by_room =
            field.by_size.iter().enumerate().map(|(rank, &node)| (free(node), Reverse(rank))).collect();
        Self { packing, ring, by_room, field }
    }

    /// The nodes that host what is pinned of an app, in order of name.
    fn beside(&self, app: usize, demand: &Demand<'_>, assignment: &Assignment) -> Vec<usize> {
        let pinned = demand.functions.iter().enumerate().filter(|(_, need)| !need.nodes.is_empty());
        let hosts = pinned.flat_map(|(function, _)| assignment.hosts(Place { app, function }));
        let mut hosts: Vec<usize> = hosts.copied().filter(|&node| self.field.serves(node)).collect();
        hosts = self.in_order(hosts);
        hosts.dedup();
        hosts
    }

    /// Nodes for each function of an app.
    fn settle(&mut self, parcel: &Parcel<'_>, beside: &[usize]) -> Vec<Settled> {
        let mut shares =
            self.whole(parcel, beside).map(|node| vec![(node, parcel.replicas)]).unwrap_or_default();
        if shares.is_empty() {
            shares = self.shares(parcel, beside);
        }
        if shares.is_empty() {
            return self.deal_out(parcel, beside);
        }
        for &(node, replicas) in &shares {
            self.take(node, parcel.memory(replicas));
        }
        let settled = |&(function, need): &(usize, &Need<'_>)| {
            let mut wanted = need.replicas.max(1);
            let enough = |(node, replicas): &(usize, u32)| {
                let wants = wanted > 0;
                wanted = wanted.saturating_sub(*replicas);
                wants.then_some(*node)
            };
            let hosts = self.in_order(shares.iter().map_while(enough).collect());
            Settled { function, hosts, fits: true }
        };
        parcel.needs.iter().map(settled).collect()
    }

    /// The node that holds all of an app, if there is one.
    fn whole(&self, parcel: &Parcel<'_>, beside: &[usize]) -> Option<usize> {
        let holds = |node: &usize| self.cores(*node) >= parcel.replicas && self.free(*node) >= parcel.all;
        self.met(parcel, beside, WALK_MAX).find(holds).or_else(|| self.roomiest(parcel.all).filter(holds))
    }

    /// Nodes, and how many replicas of each function of the app each of them holds, until it has as many as it may have.
    fn shares(&self, parcel: &Parcel<'_>, beside: &[usize]) -> Vec<(usize, u32)> {
        let mut shares: Vec<(usize, u32)> = Vec::new();
        let mut wanted = parcel.replicas;
        let walk = WALK_MAX.saturating_add(usize::try_from(wanted).unwrap_or(usize::MAX));
        for node in self.met(parcel, beside, walk) {
            let most = self.cores(node).min(wanted);
            let fits = |replicas: u32| parcel.memory(replicas) <= self.free(node);
            // Full nodes are many when they are in the way: one look at each.
            if !fits(1) || shares.iter().any(|(taken, _)| *taken == node) {
                continue;
            }
            let held = (1..=most).rev().find(|replicas| fits(*replicas)).unwrap_or(1);
            shares.push((node, held));
            wanted -= held;
            if wanted == 0 {
                break;
            }
        }
        if shares.is_empty() {
            shares.extend(self.roomiest(parcel.memory(1)).map(|node| (node, 1)));
        }
        shares
    }

    /// One replica of each function to whichever node has room for it.
    fn deal_out(&mut self, parcel: &Parcel<'_>, beside: &[usize]) -> Vec<Settled> {
        let met: Vec<usize> = self.met(parcel, beside, WALK_MAX).collect();
        let mut own: Vec<usize> = Vec::new();
        let mut settled = Vec::new();
        for &(function, need) in &parcel.needs {
            let node = self.one(need.memory, &own, &met);
            let fits = node.is_none_or(|node| self.take(node, need.memory));
            own.extend(node.filter(|node| !own.contains(node)));
            settled.push(Settled { function, hosts: node.into_iter().collect(), fits });
        }
        settled
    }

    /// Nodes by name, as all lists of hosts are.
    fn in_order(&self, mut nodes: Vec<usize>) -> Vec<usize> {
        nodes.sort_unstable_by_key(|&node| self.packing.nodes.get(node).map(|seat| seat.name));
        nodes
    }

    /// The nodes that an app asks, in this order.
    fn met(&self, parcel: &Parcel<'_>, beside: &[usize], most: usize) -> impl Iterator<Item = usize> {
        beside.iter().copied().chain(self.ring.walk(parcel.app, most))
    }

    /// The node for one function of an app that no node holds; none only if there is no node.
    fn one(&self, memory: u64, own: &[usize], met: &[usize]) -> Option<usize> {
        let fits = |node: &usize| self.free(*node) >= memory;
        let own = own.iter().copied().find(fits);
        // The first of equals, so that the ring decides among nodes that are empty.
        let roomy = || met.iter().copied().filter(fits).min_by_key(|&node| Reverse(self.free(node)));
        own.or_else(roomy).or_else(|| self.roomiest(memory)).or_else(|| met.first().copied())
    }

    /// The node with most room, if that is as much as asked for.
    fn roomiest(&self, memory: u64) -> Option<usize> {
        let (free, Reverse(rank)) = self.by_room.last()?;
        (*free >= memory).then(|| self.field.by_size.get(*rank).copied()).flatten()
    }

    fn free(&self, node: usize) -> u64 {
        self.packing.free.get(node).copied().unwrap_or_default()
    }

    fn cores(&self, node: usize) -> u32 {
        self.packing.nodes.get(node).map_or(1, |seat| seat.cores.max(1))
    }

    /// Takes memory of a node; whether it had as much.
    fn take(&mut self, node: usize, memory: u64) -> bool {
        let rank = self.field.rank.get(node).copied().flatten();
        if let Some(rank) = rank {
            self.by_room.remove(&(self.free(node), Reverse(rank)));
        }
        let fits = self.packing.book(node, memory);
        if let Some(rank) = rank {
            self.by_room.insert((self.free(node), Reverse(rank)));
        }
        fits
    }
}
