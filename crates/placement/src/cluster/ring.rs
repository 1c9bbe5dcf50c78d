//! A ring of hashes: which nodes an app would choose, the best first.
//!
//! ```text
//!        a   c  b    a  b     c        every node has points on the ring, by its name alone
//!   ──┬──●───●──●────●──●──┬──●──▶     an app walks on from its own hash: c, then a (round the end), then b
//!     0                   app
//! ```
//!
//! A node that comes takes over what walks into its points, one that goes leaves its apps to the next points; nothing else
//! moves. Rendezvous hashing does the same and deals out more evenly, but asks every node for every app: at ten thousand of
//! each a hundred million hashes for every change of the cluster, against a binary search for every app.

use super::Seat;

/// Points of a node for each of its cores: what a node of four cores gets varies by a sixth or so.
const POINTS_PER_CORE: u64 = 8;
/// Cores that count, so that points stay few.
const CORES_MAX: u32 = 64;

/// Bits of a point that tell its node, the rest are its hash: numbers sort several times faster than pairs.
const NODE_BITS: u32 = 24;
const NODE_MASK: u64 = (1 << NODE_BITS) - 1;

/// The points of all nodes.
#[derive(Debug)]
pub(super) struct Ring<'a> {
    /// Hash and place among the members, in order. Of two points with one hash, that of the earlier member comes first.
    points: Vec<u64>,
    members: &'a [usize],
}

impl<'a> Ring<'a> {
    /// A ring of members; their order is not that of the input, but one that all nodes agree on.
    pub(super) fn new(seats: &[Seat<'_>], members: &'a [usize]) -> Self {
        let mut points = Vec::new();
        for (place, &node) in (0..=NODE_MASK).zip(members) {
            let Some(seat) = seats.get(node) else { continue };
            let name = hash(seat.name);
            let count = u64::from(seat.cores.clamp(1, CORES_MAX)) * POINTS_PER_CORE;
            points.extend((0..count).map(|point| mix(name.wrapping_add(mix(point))) & !NODE_MASK | place));
        }
        points.sort_unstable();
        Self { points, members }
    }

    /// Up to `most` nodes in the order in which `key` would choose them.
    pub(super) fn walk(&self, key: &str, most: usize) -> impl Iterator<Item = usize> {
        let from = hash(key);
        let start = self.points.partition_point(|point| *point < from);
        let (before, behind) = self.points.split_at(start);
        let mut seen = Vec::new();
        let fresh = move |point: &u64| {
            let node = usize::try_from(point & NODE_MASK).ok().and_then(|place| self.members.get(place))?;
            let fresh = !seen.contains(node);
            if fresh {
                seen.push(*node);
            }
            fresh.then_some(*node)
        };
        behind.iter().chain(before).filter_map(fresh).take(most.min(self.members.len()))
    }
}

/// FNV-1a and a finish: the same on every machine and in every version, which the standard library's hashes are not.
pub(super) fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The finish of SplitMix64: each bit of the input turns about half of those of the output.
const fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(names: &[String], cores: impl Fn(usize) -> u32) -> Vec<Seat<'_>> {
        let seat = |(at, name)| Seat { name, cores: cores(at), memory: 1, draining: false };
        names.iter().map(String::as_str).enumerate().map(seat).collect()
    }

    #[test]
    fn a_walk_meets_every_node_once() {
        let names: Vec<String> = (0..20).map(|node| format!("n{node}")).collect();
        let seats = seats(&names, |_| 2);
        let members: Vec<usize> = (0..20).collect();
        let mut met: Vec<usize> = Ring::new(&seats, &members).walk("shop", 100).collect();
        assert_eq!(met.len(), 20);
        met.sort_unstable();
        assert_eq!(met, members);
    }

    #[test]
    fn a_node_with_more_cores_is_home_to_more() {
        let names: Vec<String> = (0..40).map(|node| format!("n{node}")).collect();
        let seats = seats(&names, |at| if at < 20 { 2 } else { 8 });
        let members: Vec<usize> = (0..40).collect();
        let ring = Ring::new(&seats, &members);
        let homes = (0..10_000).filter_map(|app| ring.walk(&format!("app-{app}"), 1).next());
        let large = homes.filter(|&node| node >= 20).count();
        assert!((7_200..8_800).contains(&large), "{large} of 10,000 instead of 8,000");
    }

    #[test]
    fn nobody_is_on_an_empty_ring() {
        assert_eq!(Ring::new(&[], &[]).walk("shop", 3).count(), 0);
    }

    #[test]
    fn hashes_are_those_of_other_versions() {
        // A change of these numbers moves every packed app of every cluster.
        assert_eq!(hash(""), 0xc381_7c01_6ba4_ff30);
        assert_eq!(hash("shop"), 0xe410_311b_e6de_9b08);
    }
}
