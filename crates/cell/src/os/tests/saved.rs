//! Snapshots: in memory, and as bytes.

use proptest::prelude::*;

use super::fake::{config, resumed};
use super::hostile;
use super::{Guest, SCRATCH};
use crate::os::{Config, Os, Outcome, ThreadId};

/// What it says of itself, which is all that there is of it.
fn shown(os: &Os) -> String {
    format!("{os:?}")
}

#[test]
fn a_guest_that_is_restored_goes_on_as_its_snapshot() {
    let mut guest = Guest::new();
    guest.call(libc::SYS_brk, [Guest::page(12)]);
    let snapshot = guest.os.clone();
    assert_eq!(guest.os.layout(), snapshot.layout());
    guest.call(libc::SYS_brk, [Guest::page(14)]);
    guest.call(libc::SYS_close, [1]);
    guest.call(libc::SYS_epoll_create1, [0]);
    assert_ne!(guest.os.layout(), snapshot.layout());
    guest.os.restore(&snapshot);
    assert_eq!(shown(&guest.os), shown(&snapshot));
}

#[test]
fn deadlines_are_kept_as_what_is_left_of_them() {
    let mut guest = Guest::new();
    guest.host.poke_words(SCRATCH, &[0, 700]);
    let outcome = guest.outcome(libc::SYS_nanosleep, [SCRATCH, 0]);
    assert_eq!(outcome, Outcome::Idle { until_ns: Some(guest.host.time + 700) });
    let bytes = guest.os.save(guest.host.time + 200);
    guest.os = Os::load(&config(), &bytes, 50).unwrap();
    guest.host.time = 100;
    assert_eq!(guest.next(), Outcome::Idle { until_ns: Some(550) });
    guest.host.time = 550;
    assert_eq!(resumed(guest.next()), (ThreadId::FIRST, Some(0)));
}

#[test]
fn a_snapshot_of_another_seat_is_refused() {
    let guest = Guest::new();
    let bytes = guest.os.save(0);
    assert!(Os::load(&config(), &bytes, 0).is_some());
    let check = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        assert!(Os::load(&config, &bytes, 0).is_none());
    };
    check(&|config| config.segments.truncate(1));
    check(&|config| config.memory_limit = 0);
    check(&|config| config.stack.start -= 4096);
    check(&|config| config.heap.start += 4096);
    for cut in 0..bytes.len() {
        assert!(Os::load(&config(), &bytes[..cut], 0).is_none(), "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_guest_has_done_survives_as_bytes(steps in prop::collection::vec(hostile::steps(), 0..80)) {
        let mut guest = Guest::new();
        hostile::run(&mut guest, &steps);
        let bytes = guest.os.save(0);
        let loaded = Os::load(&config(), &bytes, 0).expect("is what was saved");
        // Of the counters of changes only equality counts.
        let blind = |os: &Os| {
            let shown = shown(os);
            let (start, end) = shown.split_once("version: ").unwrap();
            format!("{start}{}", end.trim_start_matches(|c: char| c.is_ascii_digit()))
        };
        prop_assert_eq!(blind(&loaded), blind(&guest.os));
    }

    #[test]
    fn bytes_that_are_not_a_snapshot_do_no_harm(
        steps in prop::collection::vec(hostile::steps(), 0..40),
        more in prop::collection::vec(hostile::steps(), 0..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut guest = Guest::new();
        hostile::run(&mut guest, &steps);
        let mut bytes = guest.os.save(0);
        for (index, byte) in changes {
            *index.get_mut(&mut bytes) = byte;
        }
        if let Some(os) = Os::load(&config(), &bytes, 0) {
            // The pages are those of the changed list, or the host would be right to complain.
            let same = os.pages().eq(guest.os.pages());
            guest.os = os;
            if same {
                hostile::run(&mut guest, &more);
            }
        }
    }
}
