//! Which core a replica calls home.
//!
//! A wake across cores costs four to six times a switch on one core, and the functions of a chain take turns: while
//! one runs, its caller sleeps. So a chain lives on one core, and parallel work comes from more replicas, each
//! generation of which forms another chain on the next core.

/// The core for a replica, out of the cores that replicas may use; core 0 if none is named.
///
/// Replica 0 of every function of an app shares the app's core; replica `k` goes `k` cores further. Apps start on
/// cores of their own as long as there are any.
#[must_use]
pub fn home_core(app_index: usize, replica_index: usize, cores: &[usize]) -> usize {
    // Remainders first: the sum of two small numbers cannot overflow.
    let place = |index: usize| index.checked_rem(cores.len()).unwrap_or_default();
    let turn = place(place(app_index) + place(replica_index));
    cores.get(turn).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replicas_of_one_app_go_round_the_cores() {
        let cores = [2, 3, 5];
        let homes = |app| (0..4).map(|replica| home_core(app, replica, &cores)).collect::<Vec<_>>();
        assert_eq!(homes(0), [2, 3, 5, 2]);
        assert_eq!(homes(1), [3, 5, 2, 3]);
        assert_eq!(homes(3), homes(0));
    }

    #[test]
    fn without_cores_there_is_core_zero() {
        assert_eq!(home_core(7, 3, &[]), 0);
    }

    proptest! {
        #[test]
        fn a_home_is_one_of_the_cores_and_any_row_of_replicas_uses_them_all(
            app in any::<usize>(),
            first in any::<usize>(),
            count in 1..9_usize,
        ) {
            let cores: Vec<usize> = (0..count).map(|core| core * 3 + 1).collect();
            let row = |k: usize| home_core(app, (first % 1000) + k, &cores);
            let mut homes: Vec<usize> = (0..count).map(row).collect();
            homes.sort_unstable();
            prop_assert_eq!(homes, cores.clone());
            prop_assert!(cores.contains(&home_core(app, first, &cores)));
        }
    }
}
