//! Which node takes a call.
//!
//! ```text
//!   a local replica and a core are free ─────────────▶ Here
//!   else two of the peers by lot, the less busy one ─┬─ less busy than here, or here is full ──▶ There
//!                                                    └─ not ──▶ Here: it waits, or a replica starts
//! ```
//!
//! Two by lot and not the least busy of all: what a node knows of its peers is up to a second old, and everybody who sees the
//! same least busy node would send to it until the next reports.

/// A node that is as busy as it can be without a call waiting. Where nothing is known, or no replica is ready, this is taken for
/// what is: worse than a replica with room, better than a queue.
pub const BUSY_FULL: u32 = 1000;

/// How busy the replicas of a function are: calls that run or wait, in thousandths of those that run at once; `None` without a
/// replica that is ready. The same with a node's cores for `room` says how busy the node is.
#[must_use]
pub fn busy(running: u32, waiting: u32, room: u32) -> Option<u32> {
    let calls = u64::from(running) + u64::from(waiting);
    let thousandths = (calls * u64::from(BUSY_FULL)).checked_div(u64::from(room))?;
    Some(u32::try_from(thousandths).unwrap_or(u32::MAX))
}

/// What a node reports of a function: how busy its replicas are or, once no core is free, the whole node, if that is more. Or calls pile
/// up on a node that other functions keep busy.
#[must_use]
pub fn reported(function: Option<u32>, node: u32) -> Option<u32> {
    if node < BUSY_FULL { function } else { Some(function.unwrap_or(BUSY_FULL).max(node)) }
}

/// A function on the node that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here {
    /// Calls that its replicas work on.
    pub running: u32,
    /// Calls that the ready ones work on at once; 0: none is ready.
    pub room: u32,
    /// Calls that wait.
    pub queued: u32,
    /// Calls that may wait.
    pub bound: u32,
    /// How [`busy`] the whole node is; 0 where that is not known.
    pub node: u32,
}

impl Here {
    /// Whether a call runs at once: as with `admit`, none overtakes one that waits.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.queued == 0 && self.running < self.room && self.node < BUSY_FULL
    }

    /// Whether a call is refused.
    const fn is_full(&self) -> bool {
        (self.queued > 0 || self.running >= self.room) && self.queued >= self.bound
    }

    fn busy(&self) -> u32 {
        busy(self.running, self.queued, self.room).unwrap_or(BUSY_FULL).max(self.node)
    }
}

/// A function on a peer that is up and hosts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct There {
    /// How busy it is as far as is known, as it [`reported`]; `None`: not known, or no replica is ready.
    pub busy: Option<u32>,
}

impl There {
    fn known(self) -> u32 {
        self.busy.unwrap_or(BUSY_FULL)
    }
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It stays on this node.
    Here,
    /// It goes to this peer.
    There(usize),
    /// No node hosts the function.
    Nowhere,
}

/// Decides where a call goes. `here` is `None` if this node does not host the function; `draw` are two random numbers.
///
/// For a node that hosts the function, `peers` are those with a ready replica as far as is known: among many cold peers, two by
/// lot would seldom meet the warm one, and a cold start is as near here. For one that does not, they are all that host it, or
/// the calls would never spread to those that are cold.
#[must_use]
pub fn route(here: Option<&Here>, peers: &[There], draw: [u32; 2]) -> Route {
    let Some(here) = here else {
        return better_of_two(peers, draw).map_or(Route::Nowhere, |(peer, _)| Route::There(peer));
    };
    if here.is_free() {
        return Route::Here;
    }
    match better_of_two(peers, draw) {
        Some((peer, theirs)) if here.is_full() || theirs < here.busy() => Route::There(peer),
        _ => Route::Here,
    }
}

/// The less busy of two different peers drawn by lot, the first of equals; the only one if there is one.
fn better_of_two(peers: &[There], [first, second]: [u32; 2]) -> Option<(usize, u32)> {
    let first = below(peers.len(), first)?;
    let of = |peer: usize| Some((peer, peers.get(peer)?.known()));
    // Drawn from one fewer, and moved past the first: each pair is as likely as any other.
    let second = below(peers.len() - 1, second).map(|second| second + usize::from(second >= first));
    let (a, b) = (of(first)?, second.and_then(of));
    Some(b.filter(|b| b.1 < a.1).unwrap_or(a))
}

/// A number below `count` by lot; none below 0.
fn below(count: usize, draw: u32) -> Option<usize> {
    let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
    // Multiplying and not dividing: the remainder of a draw favours small numbers as well, and takes longer.
    usize::try_from((u128::from(count) * u128::from(draw)) >> u32::BITS).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Here = Here { running: 0, room: 2, queued: 0, bound: 4, node: 0 };
    const BUSY: Here = Here { running: 2, ..IDLE };
    const QUEUING: Here = Here { queued: 2, ..BUSY };
    const FULL: Here = Here { queued: 4, ..BUSY };
    const COLD: Here = Here { room: 0, ..IDLE };
    const FIRST: [u32; 2] = [0, 0];

    fn peers<const N: usize>(busy: [Option<u32>; N]) -> [There; N] {
        busy.map(|busy| There { busy })
    }

    fn check(here: Option<Here>, there: Option<u32>, expect: Route) {
        assert_eq!(route(here.as_ref(), &peers([there]), FIRST), expect, "{here:?} beside {there:?}");
    }

    #[test]
    fn a_free_replica_here_is_taken_whatever_the_peers_are() {
        check(Some(IDLE), Some(0), Route::Here);
        check(Some(Here { running: 1, ..IDLE }), Some(0), Route::Here);
        assert_eq!(route(Some(&IDLE), &[], FIRST), Route::Here);
    }

    #[test]
    fn a_queue_here_is_better_than_a_busier_peer() {
        check(Some(BUSY), Some(999), Route::There(0));
        check(Some(BUSY), Some(1000), Route::Here);
        check(Some(QUEUING), Some(1999), Route::There(0));
        check(Some(QUEUING), Some(2000), Route::Here);
        check(Some(QUEUING), Some(u32::MAX), Route::Here);
    }

    #[test]
    fn a_node_whose_cores_are_all_busy_is_not_free() {
        let crowded = Here { node: 1500, ..IDLE };
        check(Some(crowded), Some(1499), Route::There(0));
        check(Some(crowded), None, Route::There(0));
        check(Some(crowded), Some(1500), Route::Here);
        check(Some(Here { node: 999, ..IDLE }), Some(0), Route::Here);
        assert_eq!(reported(Some(200), 999), Some(200));
        assert_eq!(reported(None, 999), None);
        assert_eq!(reported(Some(200), 1500), Some(1500));
        assert_eq!(reported(Some(2000), 1500), Some(2000));
        assert_eq!(reported(None, 1500), Some(1500));
    }

    #[test]
    fn who_would_refuse_asks_a_peer() {
        check(Some(FULL), Some(u32::MAX), Route::There(0));
        check(Some(Here { bound: 0, ..BUSY }), Some(5000), Route::There(0));
        assert_eq!(route(Some(&FULL), &[], FIRST), Route::Here);
    }

    #[test]
    fn a_warm_peer_is_better_than_a_cold_start_and_a_cold_start_than_a_queue() {
        check(Some(COLD), Some(500), Route::There(0));
        check(Some(COLD), Some(1500), Route::Here);
        check(Some(COLD), None, Route::Here);
        check(Some(QUEUING), None, Route::There(0));
    }

    #[test]
    fn without_a_host_there_is_nowhere_to_go() {
        assert_eq!(route(None, &[], FIRST), Route::Nowhere);
        check(None, Some(u32::MAX), Route::There(0));
        check(None, None, Route::There(0));
    }

    #[test]
    fn how_busy_a_node_is_counts_what_waits() {
        assert_eq!(busy(0, 0, 0), None);
        assert_eq!(busy(1, 0, 4), Some(250));
        assert_eq!(busy(4, 2, 4), Some(1500));
        assert_eq!(busy(u32::MAX, u32::MAX, 1), Some(u32::MAX));
    }

    #[test]
    fn every_pair_is_drawn_as_often_as_any_other() {
        // The peer with the lowest load is in two of three pairs of three peers.
        let three = peers([Some(1), Some(2), Some(3)]);
        let mut taken = [0_u32; 3];
        for step in 0..30_000_u32 {
            let draw = [step.wrapping_mul(2_654_435_769), step.wrapping_mul(2_246_822_519).rotate_left(9)];
            match route(None, &three, draw) {
                Route::There(peer) => taken[peer] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!((19_000..21_000).contains(&taken[0]), "{taken:?}");
        assert!((9_000..11_000).contains(&taken[1]), "{taken:?}");
        assert_eq!(taken[2], 0);
    }

    fn any_here() -> impl Strategy<Value = Option<Here>> {
        let here = (0..6_u32, 0..5_u32, 0..5_u32, 0..5_u32, 0..2000_u32);
        prop::option::of(here.prop_map(|(running, room, queued, bound, node)| Here {
            running,
            room,
            queued,
            bound,
            node,
        }))
    }

    proptest! {
        /// What a call is promised, whatever the draw.
        #[test]
        fn a_call_goes_where_it_is_taken_soonest(
            here in any_here(),
            busy in prop::collection::vec(prop::option::of(0..3000_u32), 0..8),
            draw in any::<[u32; 2]>(),
        ) {
            let peers: Vec<There> = busy.into_iter().map(|busy| There { busy }).collect();
            let busy = |here: Here| super::busy(here.running, here.queued, here.room).unwrap_or(BUSY_FULL);
            let own = here.map(|here| busy(here).max(here.node));
            let room = here.is_some_and(|here| here.queued == 0 && here.running < here.room);
            let free = room && here.is_some_and(|here| here.node < BUSY_FULL);
            match route(here.as_ref(), &peers, draw) {
                Route::Nowhere => prop_assert!(here.is_none() && peers.is_empty()),
                Route::There(peer) => {
                    let theirs = peers[peer].busy.unwrap_or(BUSY_FULL);
                    prop_assert!(!free);
                    let full = !room && here.is_some_and(|here| here.queued >= here.bound);
                    prop_assert!(own.is_none_or(|own| full || theirs < own));
                    // It lost to nobody: of several peers, at least one is no better.
                    let worse = |other: &There| other.busy.unwrap_or(BUSY_FULL) >= theirs;
                    prop_assert!(peers.len() == 1 || peers.iter().filter(|other| worse(other)).count() >= 2);
                }
                Route::Here => {
                    let own = own.expect("a call stays only where it is hosted");
                    // At most one of two drawn was better, so not all but one may be.
                    let better = peers.iter().filter(|peer| peer.busy.unwrap_or(BUSY_FULL) < own).count();
                    prop_assert!(free || peers.is_empty() || better + 2 <= peers.len().max(2));
                }
            }
        }
    }
}
