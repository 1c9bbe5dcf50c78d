//! Which replica of a function takes a call.

/// How busy one replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Calls that it is working on.
    pub in_flight: u32,
    /// Calls that it works on at once.
    pub concurrency: u32,
    /// Whether it takes calls at all: started, alive, not draining.
    pub ready: bool,
}

impl Load {
    /// Whether one more call fits.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.ready && self.in_flight < self.concurrency
    }
}

/// The replica with the fewest calls among those with room.
///
/// Of equally busy replicas, the first at or after `cursor` is taken, counted around the end; a caller that
/// advances its cursor with every call spreads them evenly, one that does not keeps the same replica's caches warm.
#[must_use]
pub fn choose(loads: &[Load], cursor: usize) -> Option<usize> {
    let (before, from) = loads.split_at(cursor.checked_rem(loads.len()).unwrap_or_default());
    let places = (before.len()..).zip(from).chain(before.iter().enumerate());
    // `min_by_key` keeps the first of equals, which is the nearest to the cursor.
    places.filter(|(_, load)| load.has_room()).min_by_key(|(_, load)| load.in_flight).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(in_flight: u32, concurrency: u32, ready: bool) -> Load {
        Load { in_flight, concurrency, ready }
    }

    #[test]
    fn the_least_busy_replica_with_room_is_taken() {
        let check = |loads: &[Load], expect| assert_eq!(choose(loads, 0), expect, "{loads:?}");
        check(&[], None);
        check(&[load(0, 1, true)], Some(0));
        check(&[load(1, 1, true)], None);
        check(&[load(0, 1, false)], None);
        check(&[load(0, 0, true)], None);
        check(&[load(3, 4, true), load(1, 4, true), load(2, 4, true)], Some(1));
        check(&[load(1, 1, true), load(2, 4, true)], Some(1));
        check(&[load(0, 1, false), load(2, 4, true)], Some(1));
    }

    #[test]
    fn equals_take_turns_by_cursor() {
        let loads = [load(0, 1, true), load(0, 1, false), load(0, 1, true), load(0, 1, true)];
        let taken: Vec<_> = (0..6).map(|cursor| choose(&loads, cursor).unwrap()).collect();
        assert_eq!(taken, [0, 2, 2, 3, 0, 2]);
    }

    proptest! {
        #[test]
        fn no_replica_with_room_is_less_busy_than_the_chosen_one(
            loads in prop::collection::vec((0..4_u32, 0..4_u32, any::<bool>()), 0..9),
            cursor in any::<usize>(),
        ) {
            let loads: Vec<Load> = loads.into_iter().map(|(i, c, r)| load(i, c, r)).collect();
            match choose(&loads, cursor) {
                None => prop_assert!(!loads.iter().any(Load::has_room)),
                Some(place) => {
                    let chosen = loads[place];
                    prop_assert!(chosen.has_room());
                    let with_room = || loads.iter().filter(|load| load.has_room());
                    prop_assert!(with_room().all(|load| load.in_flight >= chosen.in_flight));
                    // No equal stands nearer to the cursor.
                    let start = cursor % loads.len();
                    let distance = |place: usize| (place + loads.len() - start) % loads.len();
                    let nearer = (0..loads.len()).filter(|other| distance(*other) < distance(place));
                    for other in nearer {
                        prop_assert!(!loads[other].has_room() || loads[other].in_flight > chosen.in_flight);
                    }
                }
            }
        }
    }
}
