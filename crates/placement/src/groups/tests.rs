//! Groups by example and by property.

use proptest::prelude::*;

use super::*;

const ROOM: Room = Room { seats: 13, keys: 13 };

fn alone(count: usize) -> Vec<Tenant> {
    vec![Tenant { shared_key: None }; count]
}

fn keys_of(group: &[usize], tenants: &[Tenant]) -> usize {
    let own = group.iter().filter(|&&member| tenants[member].shared_key.is_none()).count();
    let mut shared: Vec<_> = group.iter().filter_map(|&member| tenants[member].shared_key).collect();
    shared.sort_unstable();
    shared.dedup();
    own + shared.len()
}

#[test]
fn nothing_has_no_groups() {
    assert_eq!(group(&[], &[], ROOM), Ok(vec![]));
}

#[test]
fn an_app_that_fits_is_one_group_even_if_nobody_calls() {
    assert_eq!(group(&alone(13), &[], ROOM), Ok(vec![(0..13).collect()]));
}

#[test]
fn one_function_too_many_makes_two_groups() {
    let groups = group(&alone(14), &[], ROOM).unwrap();
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [13, 1]);
}

/// Two teams of eight, interleaved, whose members all call each other, and one call between the teams.
#[test]
fn a_split_goes_where_few_calls_are() {
    let mut calls = vec![(0, 1)];
    for a in 0..16 {
        calls.extend((0..16).filter(|b| a != *b && a % 2 == b % 2).map(|b| (a, b)));
    }
    let groups = group(&alone(16), &calls, ROOM).unwrap();
    let team = |parity: usize| (0..16).filter(|member| member % 2 == parity).collect::<Vec<_>>();
    assert_eq!(groups, [team(0), team(1)]);
}

#[test]
fn functions_that_share_a_key_count_once_and_stay_together() {
    let room = Room { seats: 32, keys: 2 };
    let tenants: Vec<Tenant> = (0..20).map(|index| Tenant { shared_key: Some(index % 2) }).collect();
    assert_eq!(group(&tenants, &[], room), Ok(vec![(0..20).collect()]));
    let room = Room { seats: 32, keys: 1 };
    let groups = group(&tenants, &[(0, 1)], room).unwrap();
    assert_eq!(groups.len(), 2);
    assert!(groups.iter().all(|group| group.iter().all(|member| member % 2 == group[0] % 2)));
}

#[test]
fn a_key_that_more_share_than_a_cell_holds_is_refused() {
    let tenants = vec![Tenant { shared_key: Some(3) }; 14];
    assert_eq!(group(&tenants, &[], ROOM), Err(KeyTooCrowded { key: 3, functions: 14 }));
}

fn apps() -> impl Strategy<Value = (Vec<Tenant>, Vec<(usize, usize)>, Room)> {
    let tenants = prop::collection::vec(prop::option::weighted(0.3, 0..4_usize), 0..40);
    let calls = prop::collection::vec((0..45_usize, 0..45_usize), 0..120);
    (tenants, calls, 1..14_usize, 1..14_usize).prop_map(|(keys, calls, seats, more)| {
        let tenants = keys.into_iter().map(|shared_key| Tenant { shared_key }).collect();
        (tenants, calls, Room { seats: seats + more, keys: seats })
    })
}

proptest! {
    #[test]
    fn every_function_is_in_one_group_and_every_group_fits((tenants, calls, room) in apps()) {
        let Ok(groups) = group(&tenants, &calls, room) else {
            let most = (0..4).map(|key| tenants.iter().filter(|t| t.shared_key == Some(key)).count()).max();
            prop_assert!(most > Some(room.seats));
            return Ok(());
        };
        let mut all: Vec<usize> = groups.iter().flatten().copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..tenants.len()).collect::<Vec<_>>());
        for members in &groups {
            prop_assert!(!members.is_empty() && members.len() <= room.seats);
            prop_assert!(keys_of(members, &tenants) <= room.keys);
        }
        for key in 0..4 {
            let with_key = |members: &&Vec<usize>| members.iter().any(|&m| tenants[m].shared_key == Some(key));
            prop_assert!(groups.iter().filter(with_key).count() <= 1);
        }
    }

    #[test]
    fn no_two_groups_would_fit_in_one_cell((tenants, calls, room) in apps()) {
        let Ok(groups) = group(&tenants, &calls, room) else { return Ok(()) };
        for (number, first) in groups.iter().enumerate() {
            for second in groups.iter().skip(number + 1) {
                let keys = keys_of(first, &tenants) + keys_of(second, &tenants);
                prop_assert!(first.len() + second.len() > room.seats || keys > room.keys);
            }
        }
    }

    #[test]
    fn the_same_app_is_split_the_same_way((tenants, calls, room) in apps()) {
        let mut backwards = calls.clone();
        backwards.reverse();
        prop_assert_eq!(group(&tenants, &calls, room), group(&tenants, &backwards, room));
    }

    /// Greedy: the busiest pair of functions that fits is never taken apart.
    #[test]
    fn the_busiest_pair_stays_together(
        count in 2..30_usize,
        calls in prop::collection::vec((0..30_usize, 0..30_usize), 0..60),
        pair in (0..30_usize, 0..30_usize),
    ) {
        let (a, b) = (pair.0 % count, pair.1 % count);
        prop_assume!(a != b);
        let mut calls = calls;
        calls.extend(std::iter::repeat_n((a, b), 200));
        let groups = group(&alone(count), &calls, Room { seats: 4, keys: 4 }).unwrap();
        prop_assert!(groups.iter().any(|members| members.contains(&a) && members.contains(&b)));
    }
}
