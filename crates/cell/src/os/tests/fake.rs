//! A host with pages of its own, which holds the `Os` to what it promises of them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bundle::{self, Bundle};
use crate::os::{
    Access, Config, Errno, Fault, Host, Os, Outcome, PAGE, Prot, Resume, Segment, Stream, ThreadId, call_name,
};

/// Where the seat of the tests begins.
pub(super) const BASE: u64 = 0x2000_0000_0000;
/// Where arguments of calls can be put: two pages in the middle of the stack.
pub(super) const SCRATCH: u64 = BASE + 204 * PAGE;
/// Pages of the seat.
pub(super) const PAGES: u64 = 256;

const IMAGE: [(u64, u64, Access); 4] =
    [(1, 2, Access::Read), (3, 2, Access::Execute), (5, 1, Access::Read), (7, 2, Access::ReadWrite)];

/// A page that has memory behind it.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// `None` for code.
    pub(super) prot: Option<Prot>,
    pub(super) bytes: Box<[u8; PAGE as usize]>,
}

/// See the top of this file.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    pub(super) pages: BTreeMap<u64, Page>,
    /// Nanoseconds of every clock.
    pub(super) time: u64,
    pub(super) out: Vec<u8>,
    pub(super) err: Vec<u8>,
    pub(super) fs_base: u64,
    pub(super) refused: Vec<&'static str>,
    /// How many effects on pages succeed before one fails.
    pub(super) patience: u64,
    changeable: Vec<Range<u64>>,
}

/// The seat that most tests use: small, so that ranges meet.
pub(super) fn config() -> Config {
    let at = |page: u64| BASE + page * PAGE;
    Config {
        seat: at(0)..at(PAGES),
        segments: IMAGE.map(|(page, len, access)| Segment { at: at(page), len: len * PAGE, access }).to_vec(),
        heap: at(9)..at(40),
        maps: at(64)..at(192),
        stack: at(200)..at(208),
        memory_limit: 80 * PAGE,
        files: bundle(&[("a/b.txt", b"bee"), ("a/b/c", b"sea"), ("a/d", &[7; 9000]), ("z", b"")]),
    }
}

/// Files that are there for good.
pub(super) fn bundle(files: &[(&str, &[u8])]) -> Bundle<'static> {
    let lens: Vec<(&str, u64)> = files.iter().map(|(name, bytes)| (*name, bytes.len() as u64)).collect();
    let mut bytes = bundle::head(&lens).expect("can be one");
    files.iter().for_each(|(_, content)| bytes.extend_from_slice(content));
    Bundle::parse(bytes.leak()).expect("was just packed")
}

impl Fake {
    fn new(config: &Config) -> Fake {
        let mut pages = BTreeMap::new();
        let mut put = |range: Range<u64>, prot| {
            for at in range.step_by(PAGE as usize) {
                pages.insert(at, Page { prot, bytes: Box::new([0; PAGE as usize]) });
            }
        };
        for segment in &config.segments {
            let prot = match segment.access {
                Access::Read => Some(Prot::Read),
                Access::ReadWrite => Some(Prot::ReadWrite),
                Access::Execute => None,
            };
            put(segment.at..segment.at + segment.len, prot);
        }
        put(config.stack.clone(), Some(Prot::ReadWrite));
        let image = config.segments[0].at..config.heap.start;
        Fake {
            pages,
            time: 1_000_000_000,
            out: Vec::new(),
            err: Vec::new(),
            fs_base: 0,
            refused: Vec::new(),
            patience: u64::MAX,
            changeable: vec![image, config.heap.clone(), config.maps.clone()],
        }
    }

    /// The pages of a range that an effect is about, which must be one that the `Os` may name.
    fn checked(&mut self, at: u64, len: u64) -> Result<impl Iterator<Item = u64> + use<>, Errno> {
        assert!(
            at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0,
            "whole pages: {at:#x} {len:#x}"
        );
        let end = at.checked_add(len).expect("does not wrap");
        // Neighbouring parts count as one.
        let inside = |at: u64| self.changeable.iter().any(|part| part.contains(&at));
        for page in (at..end).step_by(PAGE as usize) {
            assert!(inside(page), "outside: {page:#x}");
            assert!(self.pages.get(&page).is_none_or(|page| page.prot.is_some()), "code: {page:#x}");
        }
        let Some(left) = self.patience.checked_sub(1) else {
            self.patience = u64::MAX;
            return Err(Errno::NOMEM);
        };
        self.patience = left;
        Ok((at..end).step_by(PAGE as usize))
    }

    /// Runs over the pages of a range, each with its part of it.
    fn each(
        &mut self,
        at: u64,
        len: usize,
        may: impl Fn(Option<Prot>) -> bool,
        mut each: impl FnMut(&mut [u8], Range<usize>),
    ) {
        let mut done = 0;
        while done < len {
            let next = at + done as u64;
            let within = (next % PAGE) as usize;
            let part = (len - done).min(PAGE as usize - within);
            let page = self.pages.get_mut(&(next - next % PAGE)).expect("has pages");
            assert!(may(page.prot), "may be used so");
            each(&mut page.bytes[within..within + part], done..done + part);
            done += part;
        }
    }

    /// What a guest reads there.
    pub(super) fn peek(&mut self, at: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.each(at, len, |_| true, |bytes, part| out[part].copy_from_slice(bytes));
        out
    }

    pub(super) fn peek_u64(&mut self, at: u64) -> u64 {
        u64::from_le_bytes(self.peek(at, 8).try_into().unwrap())
    }

    /// What a guest writes there.
    pub(super) fn poke(&mut self, at: u64, from: &[u8]) {
        self.each(at, from.len(), |_| true, |bytes, part| bytes.copy_from_slice(&from[part]));
    }

    pub(super) fn poke_words(&mut self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.poke(at, &bytes);
    }
}

impl Host for Fake {
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.each(
            at,
            out.len(),
            |prot| prot != Some(Prot::None),
            |bytes, part| out[part].copy_from_slice(bytes),
        );
        Ok(())
    }

    fn write(&mut self, at: u64, from: &[u8]) -> Result<(), Fault> {
        let may = |prot| prot == Some(Prot::ReadWrite);
        self.each(at, from.len(), may, |bytes, part| bytes.copy_from_slice(&from[part]));
        Ok(())
    }

    fn map(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        for page in self.checked(at, len)? {
            self.pages.insert(page, Page { prot: Some(prot), bytes: Box::new([0; PAGE as usize]) });
        }
        Ok(())
    }

    fn protect(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        for page in self.checked(at, len)? {
            self.pages.get_mut(&page).expect("has pages").prot = Some(prot);
        }
        Ok(())
    }

    fn unmap(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        for page in self.checked(at, len)? {
            self.pages.remove(&page).expect("has pages");
        }
        Ok(())
    }

    fn discard(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        for page in self.checked(at, len)? {
            self.pages.get_mut(&page).expect("has pages").bytes.fill(0);
        }
        Ok(())
    }

    fn relocate(&mut self, from: u64, to: u64, len: u64) -> Result<(), Errno> {
        let (from, to) = (self.checked(from, len)?, self.checked(to, len)?);
        for (from, to) in from.zip(to) {
            let page = self.pages.remove(&from).expect("has pages");
            assert!(self.pages.insert(to, page).is_none(), "had no pages");
        }
        Ok(())
    }

    fn now(&mut self, clock: i32) -> Option<(i64, i64)> {
        let nanos = i64::try_from(self.time).unwrap();
        (0..8).contains(&clock).then_some((nanos / 1_000_000_000, nanos % 1_000_000_000))
    }

    fn random(&mut self, out: &mut [u8]) {
        out.fill(0xa5);
    }

    fn log(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Out => self.out.extend_from_slice(bytes),
            Stream::Err => self.err.extend_from_slice(bytes),
        }
    }

    fn set_fs_base(&mut self, at: u64) {
        self.fs_base = at;
    }

    fn refused(&mut self, number: u64) {
        self.refused.push(call_name(number));
    }
}

/// An `Os` and its host.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) os: Os,
    pub(super) host: Fake,
}

impl Guest {
    pub(super) fn new() -> Guest {
        Guest::with(config())
    }

    pub(super) fn with(config: Config) -> Guest {
        Guest { host: Fake::new(&config), os: Os::new(config).unwrap() }
    }

    pub(super) fn outcome<const N: usize>(&mut self, number: i64, args: [u64; N]) -> Outcome {
        let mut all = [0; 6];
        all[..N].copy_from_slice(&args);
        self.os.call(&mut self.host, number.cast_unsigned(), all)
    }

    /// A call that returns at once.
    pub(super) fn call<const N: usize>(&mut self, number: i64, args: [u64; N]) -> i64 {
        match self.outcome(number, args) {
            Outcome::Return(value) => value,
            other => panic!("{number} does not return: {other:?}"),
        }
    }

    /// A call that another thread runs after.
    pub(super) fn switch<const N: usize>(&mut self, number: i64, args: [u64; N]) -> (ThreadId, Option<i64>) {
        resumed(self.outcome(number, args))
    }

    pub(super) fn next(&mut self) -> Outcome {
        self.os.next(&mut self.host)
    }

    /// Puts a string where arguments go, and says where.
    pub(super) fn text(&mut self, text: &str) -> u64 {
        let at = SCRATCH + 2048;
        self.host.poke(at, text.as_bytes());
        self.host.poke(at + text.len() as u64, &[0]);
        at
    }

    /// The address of the same page in the seat.
    pub(super) fn page(page: u64) -> u64 {
        BASE + page * PAGE
    }
}

/// Whom an outcome resumes, and with what.
pub(super) fn resumed(outcome: Outcome) -> (ThreadId, Option<i64>) {
    match outcome {
        Outcome::Switch(Resume { thread, result, .. }) => (thread, result),
        other => panic!("no switch: {other:?}"),
    }
}

/// What a call that fails gives.
pub(super) fn errno(errno: Errno) -> i64 {
    -i64::from(errno.raw_os_error())
}
