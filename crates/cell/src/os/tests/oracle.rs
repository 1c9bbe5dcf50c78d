//! Random memory calls against a model that knows one page at a time, and finds everything out the slow way.

use proptest::prelude::*;

use super::fake::{PAGES, config};
use super::{BASE, Guest, errno};
use crate::os::space::Region;
use crate::os::{Access, Errno, PAGE, Prot};

/// What the model knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Hole,
    Reserved,
    Page(Prot, u8),
    Code,
}

struct Model {
    pages: Vec<Cell>,
    /// One behind the last page of the heap.
    brk: u64,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Map { at: u64, len: u64, prot: u64, kind: u8 },
    Unmap { at: u64, len: u64 },
    Protect { at: u64, len: u64, prot: u64 },
    Discard { at: u64, len: u64 },
    Remap { at: u64, old: u64, new: u64, may_move: bool },
    Brk { to: u64 },
    Store { at: u64, byte: u8 },
}

type Pages = std::ops::Range<u64>;

impl Model {
    fn new() -> Model {
        let config = config();
        let mut pages = vec![Cell::Hole; PAGES as usize];
        let number = |at: u64| ((at - BASE) / PAGE) as usize;
        for segment in &config.segments {
            let cell = match segment.access {
                Access::Read => Cell::Page(Prot::Read, 0),
                Access::ReadWrite => Cell::Page(Prot::ReadWrite, 0),
                Access::Execute => Cell::Code,
            };
            pages[number(segment.at)..number(segment.at + segment.len)].fill(cell);
        }
        pages[200..208].fill(Cell::Page(Prot::ReadWrite, 0));
        Model { pages, brk: 9 }
    }

    fn cell(&self, page: u64) -> Cell {
        self.pages.get(page as usize).copied().unwrap_or(Cell::Hole)
    }

    fn fill(&mut self, pages: Pages, cell: Cell) {
        pages.for_each(|page| self.pages[page as usize] = cell);
    }

    fn used(&self) -> u64 {
        self.pages.iter().filter(|cell| matches!(cell, Cell::Page(..) | Cell::Code)).count() as u64
    }

    /// Whether that many pages are too many, with those of a range gone.
    fn is_over(&self, pages: Pages, more: u64) -> bool {
        let gone =
            pages.filter(|&page| matches!(self.cell(page), Cell::Page(..) | Cell::Code)).count() as u64;
        self.used() - gone + more > 80
    }

    fn may_replace(&self, pages: &Pages) -> bool {
        let within = |start: u64, end: u64| start <= pages.start && pages.end <= end;
        let data = pages.clone().all(|page| matches!(self.cell(page), Cell::Reserved | Cell::Page(..)));
        within(64, 192) || within(9, self.brk) || within(1, 9) && data
    }

    fn gap(&self, len: u64) -> Option<u64> {
        (64..=192u64.saturating_sub(len)).find(|&at| (at..at + len).all(|page| self.cell(page) == Cell::Hole))
    }

    /// What the call gives, and what it does.
    fn map(&mut self, at: u64, len: u64, prot: u64, kind: u8) -> Result<u64, Errno> {
        let prot = prot_of(prot);
        if len == 0 {
            return Err(Errno::INVAL);
        }
        let free = |model: &Model, at: u64| {
            at >= 64 && at + len <= 192 && (at..at + len).all(|page| model.cell(page) == Cell::Hole)
        };
        let at = match kind {
            0 if free(self, at) => at,
            0 => self.gap(len).ok_or(Errno::NOMEM)?,
            1 if self.may_replace(&(at..at + len)) => at,
            1 => return Err(Errno::NOMEM),
            _ if free(self, at) => at,
            _ => return Err(Errno::EXIST),
        };
        if prot != Prot::None && self.is_over(at..at + len, len) {
            return Err(Errno::NOMEM);
        }
        let cell = if prot == Prot::None { Cell::Reserved } else { Cell::Page(prot, 0) };
        self.fill(at..at + len, cell);
        Ok(BASE + at * PAGE)
    }

    fn unmap(&mut self, at: u64, len: u64) -> Result<u64, Errno> {
        if len == 0 || !self.may_replace(&(at..at + len)) {
            return Err(Errno::INVAL);
        }
        self.fill(at..at + len, Cell::Hole);
        Ok(0)
    }

    fn protect(&mut self, at: u64, len: u64, prot: u64) -> Result<u64, Errno> {
        let prot = prot_of(prot);
        if (at..at + len).any(|page| self.cell(page) == Cell::Hole) {
            return Err(Errno::NOMEM);
        }
        if (at..at + len).any(|page| self.cell(page) == Cell::Code || (200..208).contains(&page)) {
            return Err(Errno::ACCESS);
        }
        if prot != Prot::None && self.is_over(at..at + len, len) {
            return Err(Errno::NOMEM);
        }
        for page in at..at + len {
            self.pages[page as usize] = match self.cell(page) {
                Cell::Page(_, byte) => Cell::Page(prot, byte),
                Cell::Reserved if prot != Prot::None => Cell::Page(prot, 0),
                other => other,
            };
        }
        Ok(0)
    }

    fn discard(&mut self, at: u64, len: u64) -> Result<u64, Errno> {
        if (at..at + len).any(|page| self.cell(page) == Cell::Hole) {
            return Err(Errno::NOMEM);
        }
        if len > 0 && (at < 9 || !self.may_replace(&(at..at + len))) {
            return Err(Errno::INVAL);
        }
        for page in at..at + len {
            if let Cell::Page(prot, _) = self.cell(page) {
                self.pages[page as usize] = Cell::Page(prot, 0);
            }
        }
        Ok(0)
    }

    fn remap(&mut self, at: u64, old: u64, new: u64, may_move: bool) -> Result<u64, Errno> {
        if old == 0 || new == 0 {
            return Err(Errno::INVAL);
        }
        let kind = |cell| match cell {
            Cell::Page(prot, _) => Cell::Page(prot, 0),
            other => other,
        };
        let first = kind(self.cell(at));
        let is_one = (at..at + old).all(|page| kind(self.cell(page)) == first);
        if first == Cell::Hole || !is_one || at < 64 || at + old > 192 {
            return Err(Errno::FAULT);
        }
        if new <= old {
            self.fill(at + new..at + old, Cell::Hole);
            return Ok(BASE + at * PAGE);
        }
        let more = if first == Cell::Reserved { 0 } else { new - old };
        let in_place = at + new <= 192 && (at + old..at + new).all(|page| self.cell(page) == Cell::Hole);
        let to = match in_place {
            true => at,
            false if !may_move => return Err(Errno::NOMEM),
            false => self.gap(new).ok_or(Errno::NOMEM)?,
        };
        if self.is_over(0..0, more) {
            return Err(Errno::NOMEM);
        }
        let moved: Vec<Cell> = (at..at + old).map(|page| self.cell(page)).collect();
        self.fill(at..at + old, Cell::Hole);
        self.fill(to..to + new, first);
        self.pages[to as usize..(to + old) as usize].copy_from_slice(&moved);
        Ok(BASE + to * PAGE)
    }

    fn brk(&mut self, to: u64) -> u64 {
        let fits = (9..=40).contains(&to) && (to <= self.brk || !self.is_over(0..0, to - self.brk));
        if fits {
            let (from, brk) = (self.brk, to);
            self.fill(
                from.min(brk)..from.max(brk),
                if brk > from { Cell::Page(Prot::ReadWrite, 0) } else { Cell::Hole },
            );
            self.brk = brk;
        }
        BASE + self.brk * PAGE
    }
}

fn prot_of(bits: u64) -> Prot {
    match bits {
        0 => Prot::None,
        1 => Prot::Read,
        _ => Prot::ReadWrite,
    }
}

fn ops() -> impl Strategy<Value = Op> {
    let page = || prop_oneof![4 => 60..200u64, 2 => 5..45u64, 1 => 0..PAGES];
    let len = || prop_oneof![4 => 0..6u64, 1 => 0..70u64];
    prop_oneof![
        6 => (page(), len(), 0..4u64, 0..3u8).prop_map(|(at, len, prot, kind)| Op::Map { at, len, prot, kind }),
        3 => (page(), len()).prop_map(|(at, len)| Op::Unmap { at, len }),
        4 => (page(), len(), 0..4u64).prop_map(|(at, len, prot)| Op::Protect { at, len, prot }),
        2 => (page(), len()).prop_map(|(at, len)| Op::Discard { at, len }),
        3 => (page(), len(), len(), any::<bool>()).prop_map(|(at, old, new, may_move)| Op::Remap { at, old, new, may_move }),
        2 => (0..45u64).prop_map(|to| Op::Brk { to }),
        4 => (page(), any::<u8>()).prop_map(|(at, byte)| Op::Store { at, byte }),
    ]
}

/// Takes one step in both, and compares what they say.
fn step(guest: &mut Guest, model: &mut Model, op: Op) {
    let page = |page: u64| BASE + page * PAGE;
    let (given, expected) = match op {
        Op::Map { at, len, prot, kind } => {
            let flag = [0, libc::MAP_FIXED, libc::MAP_FIXED_NOREPLACE][usize::from(kind)];
            let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flag) as u64;
            let given = guest.call(libc::SYS_mmap, [page(at), len * PAGE, prot, flags, u64::MAX, 0]);
            (given, model.map(at, len, prot, kind))
        }
        Op::Unmap { at, len } => (guest.call(libc::SYS_munmap, [page(at), len * PAGE]), model.unmap(at, len)),
        Op::Protect { at, len, prot } => {
            (guest.call(libc::SYS_mprotect, [page(at), len * PAGE, prot]), model.protect(at, len, prot))
        }
        Op::Discard { at, len } => {
            (guest.call(libc::SYS_madvise, [page(at), len * PAGE, 4]), model.discard(at, len))
        }
        Op::Remap { at, old, new, may_move } => {
            let args = [page(at), old * PAGE, new * PAGE, u64::from(may_move)];
            (guest.call(libc::SYS_mremap, args), model.remap(at, old, new, may_move))
        }
        Op::Brk { to } => (guest.call(libc::SYS_brk, [page(to)]), Ok(model.brk(to))),
        Op::Store { at, byte } => {
            let may = matches!(model.cell(at), Cell::Page(Prot::ReadWrite, _));
            assert_eq!(guest.os.owns(page(at), PAGE, true), may);
            if may {
                guest.host.poke(page(at), &[byte]);
                model.pages[at as usize] = Cell::Page(Prot::ReadWrite, byte);
            }
            return;
        }
    };
    let expected = expected.map_or_else(errno, u64::cast_signed);
    assert_eq!(given, expected, "{op:?}");
}

fn compare(guest: &Guest, model: &Model) {
    for page in 0..PAGES {
        let at = BASE + page * PAGE;
        let held = guest.host.pages.get(&at).map(|page| (page.prot, page.bytes[0]));
        let expected = match model.cell(page) {
            Cell::Hole | Cell::Reserved => None,
            Cell::Page(prot, byte) => Some((Some(prot), byte)),
            Cell::Code => Some((None, 0)),
        };
        assert_eq!(held, expected, "page {page}");
    }
    let pages =
        guest.os.pages().flat_map(|(range, prot)| range.step_by(PAGE as usize).map(move |at| (at, prot)));
    assert!(
        pages.eq(guest.host.pages.iter().map(|(at, page)| (*at, page.prot))),
        "the list is what the host has"
    );
    let regions = guest.os.space.regions();
    let apart = |pair: &[Region]| pair[0].span.end < pair[1].span.start || pair[0].backing != pair[1].backing;
    assert!(regions.windows(2).all(apart), "neighbours of one kind are one");
    assert_eq!(guest.os.memory(), model.used() * PAGE);
    assert!(guest.os.memory() <= 80 * PAGE);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_address_space_is_what_a_model_of_pages_says(ops in prop::collection::vec(ops(), 1..80)) {
        let (mut guest, mut model) = (Guest::new(), Model::new());
        for op in ops {
            let (before, pages) = (guest.os.layout(), guest.host.pages.len());
            step(&mut guest, &mut model, op);
            compare(&guest, &model);
            prop_assert!(guest.os.layout() != before || guest.host.pages.len() == pages);
        }
    }
}
