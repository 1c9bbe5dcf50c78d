//! System calls of a compartment: whatever numbers and arguments a guest makes them with, whatever lies in its memory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use baton_cell::bundle::{self, Bundle};
use baton_cell::os::{Access, Config, Errno, Fault, Host, Os, Outcome, Prot, Segment, Stream, ThreadId};
use baton_fuzz::{INPUT_BYTES_MAX, Source};

const PAGE: u64 = baton_cell::os::PAGE;
const BASE: u64 = 0x2000_0000_0000;
const STACK: u64 = 200;
const LIMIT: u64 = 90;

/// Calls about memory (most often), threads, descriptors and events: those that change something.
const FREQUENT: [u64; 26] =
    [9, 9, 9, 9, 10, 10, 10, 11, 11, 12, 25, 25, 28, 56, 56, 202, 202, 24, 35, 0, 1, 290, 291, 257, 53, 293];

/// Addresses of all pages of a range.
fn pages(at: u64, len: u64) -> impl Iterator<Item = u64> {
    assert!(at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0);
    (0..len / PAGE).map(move |page| at + page * PAGE)
}

/// The pages of a guest by their addresses (`None`: code), which read as whatever the input says.
struct Memory<'a> {
    pages: BTreeMap<u64, Option<Prot>>,
    reads: Source<'a>,
    time: u64,
    effects: u64,
}

impl Memory<'_> {
    fn check(&mut self, at: u64, len: u64) {
        self.effects += 1;
        for page in pages(at, len) {
            let index = (page - BASE) / PAGE;
            assert!(
                (1..9).contains(&index) || (9..40).contains(&index) || (64..192).contains(&index),
                "{index}"
            );
            assert_ne!(self.pages.get(&page), Some(&None), "code");
        }
    }

    fn may(&self, at: u64, len: usize, may: impl Fn(Option<Prot>) -> bool) {
        let first = at - at % PAGE;
        let end = at.checked_add(len as u64).expect("does not wrap");
        assert!((first..end).step_by(4096).all(|page| self.pages.get(&page).copied().is_some_and(&may)));
    }
}

impl Host for Memory<'_> {
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.may(at, out.len(), |prot| prot != Some(Prot::None));
        for word in out.chunks_mut(8) {
            word.copy_from_slice(&interesting(&mut self.reads).to_le_bytes()[..word.len()]);
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.may(at, bytes.len(), |prot| prot == Some(Prot::ReadWrite));
        Ok(())
    }

    fn map(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        self.check(at, len);
        self.pages.extend(pages(at, len).map(|page| (page, Some(prot))));
        Ok(())
    }

    fn protect(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        self.check(at, len);
        pages(at, len).for_each(|page| *self.pages.get_mut(&page).expect("is there") = Some(prot));
        Ok(())
    }

    fn unmap(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        self.check(at, len);
        pages(at, len).for_each(|page| assert!(self.pages.remove(&page).is_some()));
        Ok(())
    }

    fn discard(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        self.check(at, len);
        assert!(pages(at, len).all(|page| self.pages.contains_key(&page)));
        Ok(())
    }

    fn relocate(&mut self, from: u64, to: u64, len: u64) -> Result<(), Errno> {
        self.check(from, len);
        self.check(to, len);
        for (from, to) in pages(from, len).zip(pages(to, len)) {
            let page = self.pages.remove(&from).expect("is there");
            assert_eq!(self.pages.insert(to, page), None);
        }
        Ok(())
    }

    fn now(&mut self, clock: i32) -> Option<(i64, i64)> {
        let nanos = i64::try_from(self.time).ok()?;
        (0..12).contains(&clock).then_some((nanos / 1_000_000_000, nanos % 1_000_000_000))
    }

    fn random(&mut self, out: &mut [u8]) {
        out.fill(1);
    }

    fn log(&mut self, _: Stream, bytes: &[u8]) {
        assert!(bytes.len() <= baton_cell::os::IO_BYTES_MAX);
    }

    fn set_fs_base(&mut self, at: u64) {
        assert!((BASE..BASE + 256 * PAGE).contains(&at));
    }

    fn refused(&mut self, number: u64) {
        assert!(!baton_cell::os::call_name(number).is_empty());
    }
}

/// A number that means something more often than not.
fn interesting(source: &mut Source<'_>) -> u64 {
    let byte = source.byte();
    match byte >> 5 {
        0 => u64::from(byte & 31),
        1 => BASE + u64::from(source.byte()) * PAGE,
        2 => u64::from(byte & 31) * PAGE,
        3 => BASE + (STACK + 2) * PAGE + u64::from(source.byte()) * 8,
        4 => 1 << (u32::from(byte & 31) * 2),
        5 => [0x22, 0x32, 0x10_0022, 0x3d_0f00, 0x5_0f00, 0x80, 0x189, u64::MAX][usize::from(byte & 7)],
        6 => (u64::MAX >> u32::from(byte & 31)).wrapping_sub(u64::from(source.byte())),
        _ => source.word(),
    }
}

/// The same call with arguments that a program might give: what needs many things to be right at once.
fn tame(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> [u64; 6] {
    let len = b % 24 * PAGE;
    match number.cast_signed() {
        // Anonymous and private; here and there fixed.
        9 => [BASE + a / PAGE % 256 * PAGE, len, c & 3, 0x22 | (d & 1) << 4, u64::MAX, 0],
        10 => [BASE + a / PAGE % 256 * PAGE, len, c & 3, d, e, f],
        11 => [BASE + a / PAGE % 256 * PAGE, len, c, d, e, f],
        12 => [BASE + a % (45 * PAGE), b, c, d, e, f],
        25 => [BASE + a / PAGE % 256 * PAGE, len, c % 24 * PAGE, d & 1, e, f],
        28 => [BASE + a / PAGE % 256 * PAGE, len, 4, d, e, f],
        // A thread as Go makes it.
        56 => [0x5_0f00, BASE + (STACK + 4) * PAGE, c, d, e, f],
        _ => [a, b, c, d, e, f],
    }
}

fn config() -> Config {
    let at = |page: u64| BASE + page * PAGE;
    let segment = |page, len, access| Segment { at: at(page), len: len * PAGE, access };
    Config {
        seat: at(0)..at(256),
        segments: vec![
            segment(1, 3, Access::Execute),
            segment(4, 2, Access::Read),
            segment(7, 2, Access::ReadWrite),
        ],
        heap: at(9)..at(40),
        maps: at(64)..at(192),
        stack: at(STACK)..at(STACK + 8),
        memory_limit: LIMIT * PAGE,
        files: *FILES,
    }
}

/// What there is to open.
static FILES: LazyLock<Bundle<'static>> = LazyLock::new(|| {
    let mut bytes = bundle::head(&[("a/b", 3000), ("a/c/d", 5000)]).unwrap();
    bytes.extend([b'x'; 8000]);
    Bundle::parse(bytes.leak()).unwrap()
});

#[test]
fn syscalls() {
    let served = Cell::new(0u64);
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        let (reads, calls) = input.split_at(input.len() / 4);
        let mut os = Os::new(config()).unwrap();
        let first = os.pages().flat_map(|(range, prot)| range.step_by(4096).map(move |page| (page, prot)));
        let pages = first.collect();
        let mut memory = Memory { pages, reads: Source::new(reads), time: 1 << 40, effects: 0 };
        let mut source = Source::new(calls);
        while !source.is_empty() {
            let outcome = match source.byte() {
                0..=1 => os.park(&mut memory),
                2..=3 => os.preempt(&mut memory),
                4..=5 => os.next(&mut memory),
                6..=7 => {
                    memory.time += source.word() >> 40;
                    continue;
                }
                8 => {
                    let saved = os.save(memory.time);
                    os = Os::load(&config(), &saved, memory.time).expect("is what was saved");
                    continue;
                }
                byte => {
                    let number = match byte {
                        9..180 => FREQUENT[usize::from(byte) % FREQUENT.len()],
                        // All numbers that there are, and then some.
                        180..250 => u64::from(source.byte()) << 1 | u64::from(byte & 1),
                        _ => source.word(),
                    };
                    let args = [(); 6].map(|()| interesting(&mut source));
                    os.call(&mut memory, number, if byte & 1 == 0 { tame(number, args) } else { args })
                }
            };
            let now = os.pages().flat_map(|(range, prot)| range.step_by(4096).map(move |page| (page, prot)));
            assert!(now.eq(memory.pages.iter().map(|(page, prot)| (*page, *prot))));
            assert!(os.memory() == memory.pages.len() as u64 * PAGE && os.memory() <= LIMIT * PAGE);
            match outcome {
                Outcome::End(_) => break,
                Outcome::Switch(to) => assert_eq!(os.current(), Some(to.thread)),
                Outcome::Idle { until_ns } => {
                    assert_eq!(os.current(), None);
                    // Something happens at last.
                    os.unpark(ThreadId::FIRST);
                    memory.time = until_ns.map_or(memory.time, |until| until.min(1 << 60));
                }
                Outcome::Return(_) | Outcome::Spawned(..) => assert!(os.current().is_some()),
            }
        }
        served.set(served.get() + memory.effects);
    });
    println!("{} effects", served.get());
    assert!(served.get() > 100, "the inputs reach the memory");
}
