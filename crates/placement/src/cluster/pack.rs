//! Apps whose functions lie together.
//!
//! Large apps choose first, since small ones still fit into what is left. An app takes the first node that holds all of it: of those
//! that host its pinned functions, then of those that it meets on the ring, then the roomiest of all. If there is none, its
//! functions are dealt out, the largest first, each to a node that the app has already or else to the roomiest that it meets.

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

    /// Puts every function that is packed and not pinned on a node.
    pub(super) fn pack(self, apps: &[Demand<'_>], assignment: &mut Assignment) {
        let packed = apps.iter().enumerate().filter(|(_, demand)| demand.policy == Policy::Pack);
        let mut order: Vec<_> =
            packed.map(|(app, demand)| (Reverse(total(demand)), demand.app, app)).collect();
        if order.is_empty() {
            return;
        }
        order.sort_unstable();
        let mut market = Market::new(self, &assignment.field);
        for (.., app) in order {
            let Some(demand) = apps.get(app) else { continue };
            let beside = market.beside(app, demand, assignment);
            for (function, node) in market.settle(demand, &beside) {
                let place = Place { app, function };
                if node.is_some_and(|(_, fits)| !fits) {
                    assignment.crowded.push(place);
                }
                let hosts = node.map(|(node, _)| node).into_iter().collect();
                assignment.put(place, Hosts::Only(hosts), Homeless::NoNode);
            }
        }
    }
}

/// The functions of an app that are not pinned, the largest first.
fn loose<'d>(demand: &'d Demand<'_>) -> Vec<(usize, &'d Need<'d>)> {
    let mut needs: Vec<_> = demand.functions.iter().enumerate().filter(|(_, n)| n.nodes.is_empty()).collect();
    needs.sort_unstable_by_key(|(_, need)| (Reverse(need.memory), need.name));
    needs
}

/// What these take together.
fn total(demand: &Demand<'_>) -> u64 {
    let loose = demand.functions.iter().filter(|need| need.nodes.is_empty());
    loose.fold(0, |sum, need| sum.saturating_add(need.memory))
}

/// The nodes, by their place on the ring and by the room that they have left.
struct Market<'a> {
    packing: Packing<'a>,
    ring: Ring,
    /// Free bytes and rank of every node; the roomiest is last, of equals the first by rank.
    by_room: BTreeSet<(u64, Reverse<usize>)>,
    field: Field,
}

impl<'a> Market<'a> {
    fn new(packing: Packing<'a>, field: &Field) -> Self {
        let ring = Ring::new(packing.nodes, &field.by_size);
        let free = |node: usize| packing.free.get(node).copied().unwrap_or_default();
        let by_room =
            field.by_size.iter().enumerate().map(|(rank, &node)| (free(node), Reverse(rank))).collect();
        Self { packing, ring, by_room, field: field.clone() }
    }

    /// The nodes that host what is pinned of an app, in order of name.
    fn beside(&self, app: usize, demand: &Demand<'_>, assignment: &Assignment) -> Vec<usize> {
        let pinned = demand.functions.iter().enumerate().filter(|(_, need)| !need.nodes.is_empty());
        let hosts = pinned.flat_map(|(function, _)| assignment.hosts(Place { app, function }));
        let mut hosts: Vec<usize> = hosts.copied().filter(|&node| self.field.serves(node)).collect();
        hosts.sort_unstable_by_key(|&node| self.packing.nodes.get(node).map(|seat| seat.name));
        hosts.dedup();
        hosts
    }

    /// A node for each function of an app, and whether it has room for it.
    fn settle(&mut self, demand: &Demand<'_>, beside: &[usize]) -> Vec<(usize, Option<(usize, bool)>)> {
        let needs = loose(demand);
        if let Some(node) = self.whole(demand, beside) {
            let mut settled = Vec::new();
            for (function, need) in needs {
                settled.push((function, Some(self.take(node, need.memory))));
            }
            return settled;
        }
        let met: Vec<usize> = self.met(demand, beside).collect();
        let mut own: Vec<usize> = Vec::new();
        let mut settled = Vec::new();
        for (function, need) in needs {
            let node = self.one(need.memory, &own, &met);
            if let Some(node) = node
                && !own.contains(&node)
            {
                own.push(node);
            }
            settled.push((function, node.map(|node| self.take(node, need.memory))));
        }
        settled
    }

    /// The node that holds all of an app, if there is one.
    fn whole(&self, demand: &Demand<'_>, beside: &[usize]) -> Option<usize> {
        let sum = total(demand);
        self.met(demand, beside).find(|&node| self.free(node) >= sum).or_else(|| self.roomiest(sum))
    }

    /// The nodes that an app asks, in this order.
    fn met(&self, demand: &Demand<'_>, beside: &[usize]) -> impl Iterator<Item = usize> {
        beside.iter().copied().chain(self.ring.walk(demand.app, WALK_MAX))
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

    fn take(&mut self, node: usize, memory: u64) -> (usize, bool) {
        let rank = self.field.rank.get(node).copied().flatten();
        if let Some(rank) = rank {
            self.by_room.remove(&(self.free(node), Reverse(rank)));
        }
        let fits = self.packing.book(node, memory);
        if let Some(rank) = rank {
            self.by_room.insert((self.free(node), Reverse(rank)));
        }
        (node, fits)
    }
}
