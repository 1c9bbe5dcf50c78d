//! Memory: who may have what where.

use super::{BASE, Guest, SCRATCH, errno};
use crate::os::{Errno, Outcome, PAGE, Prot};

const R: u64 = libc::PROT_READ as u64;
const RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const NONE: u64 = 0;
const ANON: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
const FIXED: u64 = ANON | libc::MAP_FIXED as u64;
const FREE: u64 = ANON | libc::MAP_FIXED_NOREPLACE as u64;
const NOWHERE: u64 = u64::MAX;
const MAPS: u64 = BASE + 64 * PAGE;

fn mmap(guest: &mut Guest, at: u64, pages: u64, prot: u64, flags: u64) -> i64 {
    guest.call(libc::SYS_mmap, [at, pages * PAGE, prot, flags, NOWHERE, 0])
}

fn mprotect(guest: &mut Guest, at: u64, pages: u64, prot: u64) -> i64 {
    guest.call(libc::SYS_mprotect, [at, pages * PAGE, prot])
}

fn at(address: u64) -> i64 {
    address.cast_signed()
}

#[test]
fn mappings_go_to_the_lowest_free_place_and_come_back() {
    let mut guest = Guest::new();
    assert_eq!(mmap(&mut guest, 0, 2, RW, ANON), at(MAPS));
    assert_eq!(mmap(&mut guest, 0, 1, RW, ANON), at(MAPS + 2 * PAGE));
    assert_eq!(guest.call(libc::SYS_munmap, [MAPS, 2 * PAGE]), 0);
    assert_eq!(mmap(&mut guest, 0, 3, RW, ANON), at(MAPS + 3 * PAGE), "the gap is too small");
    assert_eq!(mmap(&mut guest, 0, 1, R, ANON), at(MAPS));
    guest.host.poke(MAPS + 2 * PAGE, b"x");
    assert_eq!(guest.host.peek(MAPS + 2 * PAGE, 1), b"x");
}

#[test]
fn a_hint_is_taken_where_it_can_be_and_passed_over_elsewhere() {
    let mut guest = Guest::new();
    let inside = MAPS + 20 * PAGE;
    assert_eq!(mmap(&mut guest, inside + 5, 2, RW, ANON), at(inside));
    assert_eq!(mmap(&mut guest, inside, 2, RW, ANON), at(MAPS), "taken");
    // Where Go wants its heap.
    assert_eq!(mmap(&mut guest, 0xc0_0000_0000, 2, NONE, ANON), at(MAPS + 2 * PAGE));
    assert_eq!(mmap(&mut guest, u64::MAX, 2, NONE, ANON), at(MAPS + 4 * PAGE), "wraps");
}

#[test]
fn fixed_mappings_replace_only_what_the_guest_owns() {
    let mut guest = Guest::new();
    mmap(&mut guest, 0, 4, RW, ANON);
    guest.host.poke(MAPS + PAGE, b"old");
    assert_eq!(mmap(&mut guest, MAPS + PAGE, 1, RW, FIXED), at(MAPS + PAGE));
    assert_eq!(guest.host.peek(MAPS + PAGE, 3), [0; 3]);
    assert_eq!(mmap(&mut guest, MAPS + PAGE, 1, RW, FREE), errno(Errno::EXIST));
    assert_eq!(mmap(&mut guest, MAPS + 4 * PAGE, 1, RW, FREE), at(MAPS + 4 * PAGE));
    assert_eq!(mmap(&mut guest, Guest::page(7), 1, RW, FIXED), at(Guest::page(7)), "data of the image");
    let elsewhere =
        [0, PAGE, BASE - PAGE, Guest::page(3), Guest::page(6), Guest::page(50), SCRATCH, Guest::page(192)];
    for page in elsewhere {
        assert_eq!(mmap(&mut guest, page, 1, RW, FIXED), errno(Errno::NOMEM), "{page:#x}");
        assert_eq!(mmap(&mut guest, page, 1, RW, FREE), errno(Errno::EXIST), "{page:#x}");
    }
    // Across the edges of what it owns.
    for (page, len) in [(Guest::page(63), 2), (Guest::page(191), 2), (Guest::page(2), 2), (Guest::page(8), 2)]
    {
        assert_eq!(mmap(&mut guest, page, len, RW, FIXED), errno(Errno::NOMEM), "{page:#x}");
    }
}

#[test]
fn arguments_that_wrap_or_are_not_whole_pages_are_refused() {
    let mut guest = Guest::new();
    let mut map = |at: u64, len: u64| guest.call(libc::SYS_mmap, [at, len, RW, ANON, NOWHERE, 0]);
    assert_eq!(map(0, 0), errno(Errno::INVAL));
    for len in [u64::MAX, u64::MAX - PAGE, i64::MAX as u64, 1 << 47, 129 * PAGE] {
        assert_eq!(map(0, len), errno(Errno::NOMEM), "{len:#x}");
        assert_eq!(map(MAPS, len), errno(Errno::NOMEM), "{len:#x}");
    }
    let mut raw = |number, args: [u64; 3]| guest.call(number, args);
    assert_eq!(raw(libc::SYS_munmap, [MAPS + 1, PAGE, 0]), errno(Errno::INVAL));
    assert_eq!(raw(libc::SYS_munmap, [MAPS, 0, 0]), errno(Errno::INVAL));
    assert_eq!(raw(libc::SYS_munmap, [MAPS, u64::MAX, 0]), errno(Errno::INVAL));
    assert_eq!(raw(libc::SYS_munmap, [0, u64::MAX - PAGE + 1, 0]), errno(Errno::INVAL));
    assert_eq!(raw(libc::SYS_mprotect, [MAPS + 1, PAGE, R]), errno(Errno::INVAL));
    assert_eq!(raw(libc::SYS_mprotect, [MAPS, u64::MAX, R]), errno(Errno::NOMEM));
    assert_eq!(raw(libc::SYS_madvise, [MAPS, u64::MAX, 4]), errno(Errno::NOMEM));
    assert_eq!(guest.call(libc::SYS_mmap, [0, PAGE, RW, ANON, NOWHERE, 1]), errno(Errno::INVAL));
    assert_eq!(
        guest.call(libc::SYS_mmap, [0, PAGE, RW, 0x20, NOWHERE, 0]),
        errno(Errno::INVAL),
        "neither kind"
    );
    assert_eq!(
        guest.call(libc::SYS_mmap, [0, PAGE, RW, ANON | 0x40000, NOWHERE, 0]),
        errno(Errno::INVAL),
        "huge"
    );
}

#[test]
fn nothing_ever_becomes_executable_and_the_guest_is_told_once() {
    let mut guest = Guest::new();
    let exec = RW | libc::PROT_EXEC as u64;
    assert_eq!(mmap(&mut guest, 0, 1, exec, ANON), errno(Errno::ACCESS));
    assert_eq!(mmap(&mut guest, 0, 1, libc::PROT_EXEC as u64, ANON), errno(Errno::ACCESS));
    mmap(&mut guest, 0, 1, RW, ANON);
    assert_eq!(mprotect(&mut guest, MAPS, 1, R | libc::PROT_EXEC as u64), errno(Errno::ACCESS));
    assert_eq!(guest.call(libc::SYS_pkey_mprotect, [MAPS, PAGE, RW, 0]), errno(Errno::NOSYS));
    let told = String::from_utf8(guest.host.err).unwrap();
    assert_eq!(told.matches("a JIT cannot run in a compartment").count(), 1);
    assert_eq!(guest.host.refused, ["mmap", "mmap", "mprotect", "pkey_mprotect"]);
}

#[test]
fn code_and_stack_stay_as_they_are() {
    let mut guest = Guest::new();
    for prot in [NONE, R, RW] {
        assert_eq!(mprotect(&mut guest, Guest::page(3), 1, prot), errno(Errno::ACCESS), "code");
        assert_eq!(mprotect(&mut guest, Guest::page(2), 2, prot), errno(Errno::ACCESS), "across its edge");
        assert_eq!(mprotect(&mut guest, Guest::page(201), 1, prot), errno(Errno::ACCESS), "stack");
    }
    for page in [3, 4, 200, 207] {
        assert_eq!(guest.call(libc::SYS_munmap, [Guest::page(page), PAGE]), errno(Errno::INVAL));
        assert_eq!(guest.call(libc::SYS_madvise, [Guest::page(page), PAGE, 4]), errno(Errno::INVAL));
        assert_eq!(guest.call(libc::SYS_mremap, [Guest::page(page), PAGE, 2 * PAGE, 1]), errno(Errno::FAULT));
    }
    // Constants after relocation.
    assert_eq!(mprotect(&mut guest, Guest::page(7), 1, R), 0);
    assert!(!guest.os.owns(Guest::page(7), 1, true) && guest.os.owns(Guest::page(7), 1, false));
}

#[test]
fn reservations_are_free_and_pages_are_counted() {
    let mut guest = Guest::new();
    let used = guest.os.memory();
    assert_eq!(used, (7 + 8) * PAGE, "image and stack");
    assert_eq!(mmap(&mut guest, 0, 100, NONE, ANON), at(MAPS));
    assert_eq!(guest.os.memory(), used);
    assert!(!guest.host.pages.contains_key(&MAPS), "the host never hears of it");
    assert_eq!(mprotect(&mut guest, MAPS + PAGE, 65, RW), 0);
    assert_eq!(guest.os.memory(), 80 * PAGE);
    assert_eq!(mprotect(&mut guest, MAPS, 1, RW), errno(Errno::NOMEM), "the limit");
    assert_eq!(mmap(&mut guest, 0, 1, R, ANON), errno(Errno::NOMEM));
    assert_eq!(mprotect(&mut guest, MAPS + PAGE, 65, NONE), 0);
    assert_eq!(guest.os.memory(), 80 * PAGE, "what is kept counts");
    assert_eq!(mmap(&mut guest, MAPS + PAGE, 65, NONE, FIXED), at(MAPS + PAGE));
    assert_eq!(guest.os.memory(), used, "what is given back does not");
}

#[test]
fn protection_keeps_what_pages_hold() {
    let mut guest = Guest::new();
    mmap(&mut guest, 0, 3, RW, ANON);
    guest.host.poke(MAPS + PAGE, b"kept");
    for prot in [NONE, R, RW] {
        assert_eq!(mprotect(&mut guest, MAPS + PAGE, 1, prot), 0);
        assert_eq!(guest.os.owns(MAPS + PAGE, 4, false), prot != NONE);
        assert_eq!(guest.os.owns(MAPS + PAGE, 4, true), prot == RW);
    }
    assert_eq!(guest.host.peek(MAPS + PAGE, 4), b"kept");
    assert!(guest.os.owns(MAPS, 3 * PAGE, true));
    assert!(!guest.os.owns(MAPS, 3 * PAGE + 1, false) && !guest.os.owns(MAPS, u64::MAX, false));
    assert_eq!(mprotect(&mut guest, MAPS + 2 * PAGE, 2, R), errno(Errno::NOMEM), "half of it is not there");
}

#[test]
fn the_break_moves_within_the_heap() {
    let mut guest = Guest::new();
    let heap = Guest::page(9);
    assert_eq!(guest.call(libc::SYS_brk, [0]), at(heap));
    assert_eq!(guest.call(libc::SYS_brk, [heap + 5000]), at(heap + 5000));
    guest.host.poke(heap + PAGE, b"x");
    assert_eq!(guest.call(libc::SYS_brk, [heap + 100]), at(heap + 100));
    assert!(!guest.host.pages.contains_key(&(heap + PAGE)));
    assert_eq!(guest.call(libc::SYS_brk, [heap + 2 * PAGE]), at(heap + 2 * PAGE));
    assert_eq!(guest.host.peek(heap + PAGE, 1), [0]);
    for to in [heap - 1, Guest::page(40) + 1, u64::MAX, SCRATCH] {
        assert_eq!(guest.call(libc::SYS_brk, [to]), at(heap + 2 * PAGE), "{to:#x}");
    }
    mmap(&mut guest, 0, 60, RW, ANON);
    assert_eq!(guest.call(libc::SYS_brk, [heap + 20 * PAGE]), at(heap + 2 * PAGE), "the limit");
}

#[test]
fn remapping_grows_in_place_or_moves_with_what_is_there() {
    let mut guest = Guest::new();
    mmap(&mut guest, 0, 2, RW, ANON);
    guest.host.poke(MAPS + PAGE, b"mine");
    let mremap = |guest: &mut Guest, at: u64, old: u64, new: u64, flags: u64| {
        guest.call(libc::SYS_mremap, [at, old * PAGE, new * PAGE, flags])
    };
    assert_eq!(mremap(&mut guest, MAPS, 2, 4, 0), at(MAPS), "in place");
    mmap(&mut guest, 0, 1, RW, ANON);
    assert_eq!(mremap(&mut guest, MAPS, 4, 5, 0), errno(Errno::NOMEM));
    let moved = MAPS + 5 * PAGE;
    assert_eq!(mremap(&mut guest, MAPS, 4, 6, 1), at(moved));
    assert_eq!(guest.host.peek(moved + PAGE, 4), b"mine");
    assert!(!guest.os.owns(MAPS, 1, false));
    assert_eq!(guest.os.memory(), (15 + 1 + 6) * PAGE);
    assert_eq!(mremap(&mut guest, moved, 6, 2, 0), at(moved), "shrinks");
    assert_eq!(guest.os.memory(), (15 + 1 + 2) * PAGE);
    assert_eq!(mremap(&mut guest, moved, 2, 70, 1), errno(Errno::NOMEM), "the limit");
    assert_eq!(mremap(&mut guest, moved, 3, 4, 1), errno(Errno::FAULT), "not all of it is there");
    assert_eq!(mremap(&mut guest, moved, 0, 4, 1), errno(Errno::INVAL));
    assert_eq!(mremap(&mut guest, moved, 2, 4, 3), errno(Errno::INVAL), "to a place of one's choice");
    assert_eq!(guest.host.peek(moved + PAGE, 4), b"mine");
}

#[test]
fn discarded_pages_read_as_zeros() {
    let mut guest = Guest::new();
    mmap(&mut guest, 0, 3, RW, ANON);
    for advice in [libc::MADV_DONTNEED, libc::MADV_FREE] {
        guest.host.poke(MAPS + PAGE, b"x");
        assert_eq!(guest.call(libc::SYS_madvise, [MAPS, 2 * PAGE, advice as u64]), 0);
        assert_eq!(guest.host.peek(MAPS + PAGE, 1), [0]);
    }
    assert_eq!(guest.call(libc::SYS_madvise, [MAPS, PAGE, libc::MADV_HUGEPAGE as u64]), 0);
    let wipe = guest.call(libc::SYS_madvise, [MAPS, PAGE, libc::MADV_WIPEONFORK as u64]);
    assert_eq!(wipe, errno(Errno::INVAL), "a promise that a forked cell would break");
}

#[test]
fn a_host_that_fails_leaves_books_and_pages_in_step() {
    // Each of these is tried with a host that fails at its first, second, third effect.
    let calls: [(i64, [u64; 4]); 6] = [
        (libc::SYS_munmap, [MAPS, 9 * PAGE, 0, 0]),
        (libc::SYS_mprotect, [MAPS, 9 * PAGE, R, 0]),
        (libc::SYS_mremap, [MAPS + 6 * PAGE, 3 * PAGE, 5 * PAGE, 1]),
        (libc::SYS_mmap, [MAPS, 9 * PAGE, NONE, FIXED]),
        (libc::SYS_mmap, [MAPS, 9 * PAGE, RW, FIXED]),
        (libc::SYS_brk, [Guest::page(12), 0, 0, 0]),
    ];
    let mut guest = Guest::new();
    mmap(&mut guest, 0, 10, NONE, ANON);
    mprotect(&mut guest, MAPS, 2, RW);
    mprotect(&mut guest, MAPS + 4 * PAGE, 5, RW);
    mmap(&mut guest, MAPS + 9 * PAGE, 1, R, FIXED);
    for (number, args) in calls {
        for patience in 0..3 {
            let mut guest = guest.clone();
            guest.host.patience = patience;
            let outcome = guest.outcome(number, args);
            assert!(matches!(outcome, Outcome::Return(_)));
            let mut pages = guest
                .os
                .pages()
                .flat_map(|(range, prot)| range.step_by(PAGE as usize).map(move |at| (at, prot)));
            assert!(
                guest.host.pages.iter().all(|(at, page)| pages.next() == Some((*at, page.prot))),
                "{number} {patience}"
            );
            assert!(pages.next().is_none());
        }
    }
}

#[test]
fn a_move_that_fails_leaves_nothing_behind() {
    let mut guest = Guest::new();
    mmap(&mut guest, 0, 2, RW, ANON);
    mmap(&mut guest, 0, 1, R, ANON);
    let (used, pages) = (guest.os.memory(), guest.host.pages.len());
    // The tail is mapped first, then the rest moves to it.
    guest.host.patience = 1;
    assert_eq!(guest.call(libc::SYS_mremap, [MAPS, 2 * PAGE, 4 * PAGE, 1]), errno(Errno::NOMEM));
    assert_eq!((guest.os.memory(), guest.host.pages.len()), (used, pages));
    assert!(guest.os.owns(MAPS, 2 * PAGE, true));
}

#[test]
fn a_file_is_mapped_as_a_copy() {
    let mut guest = Guest::new();
    let path = guest.text("/app/a/d");
    let fd = guest.call(libc::SYS_open, [path, 0, 0]).cast_unsigned();
    let private = libc::MAP_PRIVATE as u64;
    assert_eq!(guest.call(libc::SYS_mmap, [0, 9000, RW, private, fd, PAGE]), at(MAPS));
    assert_eq!(guest.host.peek(MAPS, 9000 - 4096), [7; 9000 - 4096]);
    assert_eq!(guest.host.peek(MAPS + 9000 - 4096, 100), [0; 100]);
    assert_eq!(
        guest.call(libc::SYS_mmap, [0, PAGE, R, private, fd, 1 << 40]),
        at(MAPS + 3 * PAGE),
        "behind its end"
    );
    assert_eq!(
        guest.call(libc::SYS_mmap, [0, PAGE, RW, libc::MAP_SHARED as u64, fd, 0]),
        errno(Errno::ACCESS)
    );
    assert_eq!(guest.call(libc::SYS_mmap, [0, PAGE, RW, private, 1, 0]), errno(Errno::NODEV));
    assert_eq!(guest.call(libc::SYS_mmap, [0, PAGE, RW, private, 77, 0]), errno(Errno::BADF));
    assert_eq!(guest.host.pages[&(MAPS + 3 * PAGE)].prot, Some(Prot::Read));
}

#[test]
fn a_table_that_is_full_refuses_more() {
    let mut config = super::fake::config();
    config.maps = BASE + 300 * PAGE..BASE + 9000 * PAGE;
    config.stack = BASE + 9000 * PAGE..BASE + 9001 * PAGE;
    config.seat = BASE..BASE + 9001 * PAGE;
    let mut guest = Guest::with(config);
    // Every other page: nothing that could be one region.
    let mut map = |n: u64| mmap(&mut guest, BASE + (300 + 2 * n) * PAGE, 1, NONE, FREE);
    let first = (0..4000).find(|&n| map(n) < 0).expect("is refused at last");
    assert!((2000..2048).contains(&first), "{first}");
    assert_eq!(map(first), errno(Errno::NOMEM));
    // What makes room is possible all the same.
    assert_eq!(guest.call(libc::SYS_munmap, [BASE + 302 * PAGE, PAGE]), 0);
    assert_eq!(mmap(&mut guest, BASE + 302 * PAGE, 1, NONE, FREE), at(BASE + 302 * PAGE));
    assert_eq!(mmap(&mut guest, BASE + 303 * PAGE, 1, RW, FREE), errno(Errno::NOMEM));
    assert_eq!(guest.call(libc::SYS_munmap, [BASE + 300 * PAGE, 8000 * PAGE]), 0);
    assert_eq!(mmap(&mut guest, BASE + 303 * PAGE, 1, RW, FREE), at(BASE + 303 * PAGE));
}
