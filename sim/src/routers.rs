//! Ways to decide where a call goes: Baton's, and those that it is held against.

use baton_placement::{BUSY_FULL, Here, Route, There, busy, route};

use crate::dice::Dice;
use crate::world::{CORES, World};

/// A way to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Router {
    /// `baton_placement::route` over the peers that have a ready replica.
    Baton,
    /// The same over all peers that host the function.
    BatonAllHosts,
    /// Any of the candidates.
    Random,
    /// The less busy of two candidates, this node no more likely than another.
    Two,
    /// The least busy of all candidates.
    Least,
    /// Never another node if this one hosts the function.
    Stay,
    /// The best there is by what is true at this moment.
    Omniscient,
}

impl Router {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Baton => "baton: local, then two of the warm",
            Self::BatonAllHosts => "local, then two of all hosts",
            Self::Random => "random",
            Self::Two => "two choices, not local first",
            Self::Least => "least busy of all",
            Self::Stay => "always local",
            Self::Omniscient => "omniscient",
        }
    }

    /// The node for a call of a function by `from`; `None` if there is none.
    pub(crate) fn choose(self, world: &mut World, function: u32, from: u32, dice: &mut Dice) -> Option<u32> {
        let here = world.here(function, from);
        match self {
            Self::Omniscient => best(world, function, from, here.is_some()),
            Self::Stay if here.is_some() => Some(from),
            Self::BatonAllHosts => {
                let (nodes, there) = world.all_hosts(function, from);
                follow(route(here.as_ref(), &there, [dice.word(), dice.word()]), from, &nodes)
            }
            // Whoever cannot start a replica itself must be able to have one started elsewhere.
            Self::Baton | Self::Stay if here.is_none() => any_host(world, function, from, dice),
            Self::Baton | Self::Stay => {
                let draw = [dice.word(), dice.word()];
                world.board.look(function, from, |there, nodes| {
                    follow(route(here.as_ref(), there, draw), from, nodes)
                })
            }
            Self::Random | Self::Two | Self::Least => {
                let own = here.map(|here| {
                    busy(here.running, here.queued, here.room).unwrap_or(BUSY_FULL).max(here.node)
                });
                let chosen = world.board.look(function, from, |there, nodes| {
                    self.among(own, there, dice).map(|at| nodes.get(at).copied().unwrap_or(from))
                });
                chosen.or_else(|| any_host(world, function, from, dice))
            }
        }
    }

    /// One of the peers, or this node, which stands behind them.
    fn among(self, own: Option<u32>, there: &[There], dice: &mut Dice) -> Option<usize> {
        let count = there.len() + usize::from(own.is_some());
        let load = |at: usize| match there.get(at) {
            Some(peer) => peer.busy.unwrap_or(BUSY_FULL),
            None => own.unwrap_or(BUSY_FULL),
        };
        let draws = u32::try_from(count).ok().filter(|count| *count > 0)?;
        let mut draw = || dice.below(draws) as usize;
        match self {
            Self::Two => {
                let (a, b) = (draw(), draw());
                Some(if load(b) < load(a) { b } else { a })
            }
            Self::Least => {
                // Among equals by lot.
                let start = draw();
                (start..count).chain(0..start).min_by_key(|at| load(*at))
            }
            _ => Some(draw()),
        }
    }
}

fn follow(route: Route, from: u32, nodes: &[u32]) -> Option<u32> {
    match route {
        Route::Here => Some(from),
        Route::There(peer) => nodes.get(peer).copied(),
        Route::Nowhere => None,
    }
}

/// This node does not host the function: the router decides among all that do, warm or not.
fn any_host(world: &mut World, function: u32, from: u32, dice: &mut Dice) -> Option<u32> {
    let (nodes, there) = world.all_hosts(function, from);
    follow(route(None, &there, [dice.word(), dice.word()]), from, &nodes)
}

/// A free replica beside a free core, here if possible, else where most cores are free; else a new replica where a
/// core is free, else the node with least to do.
fn best(world: &World, function: u32, from: u32, here: bool) -> Option<u32> {
    let running = |node: u32| world.machines.get(node as usize).map_or(u32::MAX, |machine| machine.all());
    let free = |node: &u32| {
        let seen = world.here(function, *node);
        seen.is_some_and(|Here { running, queued, room, .. }| queued == 0 && running < room)
            && running(*node) < CORES
    };
    if here && free(&from) {
        return Some(from);
    }
    let warm = world.warm.get(function as usize)?.iter().copied().filter(free);
    let warm = warm.min_by_key(|node| running(*node));
    let cold = || (here && running(from) < CORES).then_some(from);
    warm.or_else(cold).or_else(|| idlest(world, function))
}

/// The host with least to do.
fn idlest(world: &World, function: u32) -> Option<u32> {
    let hosts = |node: &u32| world.here(function, *node).is_some();
    let few: Vec<u32> = world.hosts(function).take(64).collect();
    if few.len() < 64 {
        let running = |node: &u32| world.machines.get(*node as usize).map(|machine| machine.all());
        return few.into_iter().filter(hosts).min_by_key(running);
    }
    world.by_load.iter().map(|(_, node)| *node).find(hosts)
}
