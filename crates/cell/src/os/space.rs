//! The address space of a seat: what its guest may do where.
//!
//! ```text
//! seat ┌─ image ─┬─ heap → ─ ─ ─ ─┐  mail  ┌─ maps ─────────────┐      ┌─ stack ─┐
//!      │ code,   │ brk moves here │ not    │ mmap, lowest free  │      │ stays   │
//!      │ data    │                │ ours   │ range first        │      │ as it is│
//! ```
//!
//! A reservation (`PROT_NONE`) is only a note here: the [`Host`] never hears of it, and it is free of charge. Pages
//! come when it becomes accessible, and stay until they are unmapped. What the guest may change: all of maps, the heap
//! up to the break, the data of the image; never code, never the stack.

mod regions;

use super::saved::{In, Out};
use super::{Access, Config, ConfigError, Errno, Host, PAGE, Prot};
pub(super) use regions::{Backing, Region};
use regions::{REGIONS_MAX, Regions};

/// Addresses from `start` up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    /// The bytes at `at`; `None` if they wrap.
    pub(super) fn new(at: u64, len: u64) -> Option<Span> {
        Some(Span { start: at, end: at.checked_add(len)? })
    }

    /// The pages of a system call's arguments: whole ones, at least one.
    pub(super) fn pages(at: u64, len: u64) -> Result<Span, Errno> {
        if !at.is_multiple_of(PAGE) || len == 0 {
            return Err(Errno::INVAL);
        }
        let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::NOMEM)?;
        Span::new(at, len).ok_or(Errno::NOMEM)
    }

    pub(super) fn len(self) -> u64 {
        self.end - self.start
    }

    fn holds(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn meets(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Where a mapping is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere, rather here.
    Near(u64),
    /// Here, in place of what there is.
    Over(u64),
    /// Here, if nothing is there.
    Free(u64),
}

/// See the top of this file.
#[derive(Clone, Debug)]
pub(super) struct Space {
    regions: Regions,
    seat: Span,
    image: Span,
    heap: Span,
    maps: Span,
    stack: Span,
    limit: u64,
    /// The break: one behind the last byte of the heap.
    brk: u64,
}

impl Space {
    pub(super) fn new(config: &Config) -> Result<Space, ConfigError> {
        let seat = Span { start: config.seat.start, end: config.seat.end };
        let part = |start: u64, end: u64| {
            let span = Span { start, end };
            let whole = start.is_multiple_of(PAGE) && end.is_multiple_of(PAGE);
            if whole && start < end && seat.holds(span) {
                Ok(span)
            } else {
                Err(ConfigError::Range { at: start })
            }
        };
        let heap = part(config.heap.start, config.heap.end)?;
        let maps = part(config.maps.start, config.maps.end)?;
        let stack = part(config.stack.start, config.stack.end)?;
        let mut regions = Regions::default();
        let mut image = Span { start: heap.start, end: heap.start };
        let mut last = seat.start;
        for segment in &config.segments {
            let end = segment.at.checked_add(segment.len).ok_or(ConfigError::Range { at: segment.at })?;
            let span = part(segment.at, end)?;
            if span.start < last {
                return Err(ConfigError::Overlap { at: span.start });
            }
            image.start = image.start.min(span.start);
            last = span.end;
            regions.fill(span, Some(segment.access.into()));
        }
        for (front, behind) in [(last, heap.start), (heap.end, maps.start), (maps.end, stack.start)] {
            if behind < front {
                return Err(ConfigError::Overlap { at: behind });
            }
        }
        regions.fill(stack, Some(Backing::Pages(Prot::ReadWrite)));
        if regions.paged() > config.memory_limit {
            return Err(ConfigError::Memory { needed: regions.paged() });
        }
        Ok(Space { regions, seat, image, heap, maps, stack, limit: config.memory_limit, brk: heap.start })
    }

    pub(super) fn save(&self, out: &mut Out) {
        out.word(self.brk);
        out.count(self.regions.all().len());
        for Region { span, backing } in self.regions.all() {
            let kind = match backing {
                Backing::Reserved => 0,
                Backing::Code => 1,
                Backing::Pages(Prot::None) => 2,
                Backing::Pages(Prot::Read) => 3,
                Backing::Pages(Prot::ReadWrite) => 4,
            };
            out.words([span.start, span.end, kind]);
        }
    }

    /// What a seat that is made after `config` had when it was saved.
    pub(super) fn load(saved: &mut In<'_>, config: &Config) -> Option<Space> {
        let mut space = Space::new(config).ok()?;
        let code = |regions: &Regions| -> Vec<Region> {
            regions.all().iter().filter(|region| region.backing == Backing::Code).copied().collect()
        };
        let new = core::mem::take(&mut space.regions);
        space.brk = saved.word()?;
        let heap = Span { start: space.heap.start, end: space.brk.checked_next_multiple_of(PAGE)? };
        let mut last = space.seat.start;
        for _ in 0..saved.count(REGIONS_MAX)? {
            let [start, end, kind] = saved.words()?;
            let backing = match kind {
                0 => Backing::Reserved,
                1 => Backing::Code,
                2 => Backing::Pages(Prot::None),
                3 => Backing::Pages(Prot::Read),
                4 => Backing::Pages(Prot::ReadWrite),
                _ => return None,
            };
            let span = Span { start, end };
            let is_whole =
                start.is_multiple_of(PAGE) && end.is_multiple_of(PAGE) && last <= start && start < end;
            // The end of the image and the start of the heap can be one region.
            let image_and_heap = Span { start: space.image.start, end: heap.end };
            let is_inside = [image_and_heap, space.maps, space.stack].iter().any(|part| part.holds(span));
            if !is_whole || !is_inside {
                return None;
            }
            last = end;
            space.regions.fill(span, Some(backing));
        }
        let stack = |backing| backing == Backing::Pages(Prot::ReadWrite);
        let is_right = (space.heap.start..=space.heap.end).contains(&space.brk)
            && code(&space.regions) == code(&new)
            && space.regions.cover(space.stack, stack)
            && space.used() <= space.limit;
        is_right.then_some(space)
    }

    pub(super) fn restore(&mut self, from: &Space) {
        self.regions.restore(&from.regions);
        self.brk = from.brk;
    }

    pub(super) fn regions(&self) -> &[Region] {
        self.regions.all()
    }

    pub(super) fn version(&self) -> u64 {
        self.regions.version()
    }

    /// Bytes with pages behind them.
    pub(super) fn used(&self) -> u64 {
        self.regions.paged()
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes of the first thread's stack.
    pub(super) fn stack_bytes(&self) -> u64 {
        self.stack.len()
    }

    /// Whether `at` is an address of the seat at all.
    pub(super) fn in_seat(&self, at: u64) -> bool {
        (self.seat.start..self.seat.end).contains(&at)
    }

    /// Whether the guest may read, or write, all of `span`.
    pub(super) fn owns(&self, span: Span, write: bool) -> bool {
        self.regions.cover(span, |backing| match backing {
            Backing::Pages(Prot::ReadWrite) => true,
            Backing::Pages(Prot::Read) | Backing::Code => !write,
            Backing::Pages(Prot::None) | Backing::Reserved => false,
        })
    }

    /// Moves the break, and says where it is.
    pub(super) fn brk<H: Host>(&mut self, host: &mut H, to: u64) -> u64 {
        if !(self.heap.start..=self.heap.end).contains(&to) {
            return self.brk;
        }
        // Both are at most the end of the heap, which is a whole page: rounding up does not wrap.
        let (old, new) = (self.brk.next_multiple_of(PAGE), to.next_multiple_of(PAGE));
        let done = if new > old {
            self.place(host, Span { start: old, end: new }, Backing::Pages(Prot::ReadWrite))
        } else {
            self.clear(host, Span { start: new, end: old }, None)
        };
        if done.is_ok() {
            self.brk = to;
        }
        self.brk
    }

    /// Maps fresh pages, or, without `prot`, keeps addresses. Says where.
    pub(super) fn map<H: Host>(
        &mut self,
        host: &mut H,
        place: Place,
        len: u64,
        prot: Prot,
    ) -> Result<Span, Errno> {
        let span = self.find(place, len)?;
        let backing = if prot == Prot::None { Backing::Reserved } else { Backing::Pages(prot) };
        self.place(host, span, backing)?;
        Ok(span)
    }

    fn find(&self, place: Place, len: u64) -> Result<Span, Errno> {
        match place {
            Place::Near(hint) => {
                let len = Span::pages(0, len)?.len();
                let fits = |span: &Span| self.maps.holds(*span) && self.regions.is_free(*span);
                let wanted = Span::new(hint - hint % PAGE, len).filter(fits);
                wanted.or_else(|| self.regions.gap(self.maps, len)).ok_or(Errno::NOMEM)
            }
            Place::Over(at) => {
                Some(Span::pages(at, len)?).filter(|&span| self.may_replace(span)).ok_or(Errno::NOMEM)
            }
            Place::Free(at) => {
                let span = Span::pages(at, len)?;
                if !self.maps.holds(span) {
                    // Something of the cell may be there: as if it were taken.
                    return Err(Errno::EXIST);
                }
                if self.regions.is_free(span) { Ok(span) } else { Err(Errno::EXIST) }
            }
        }
    }

    /// Whether the guest may put something else there.
    fn may_replace(&self, span: Span) -> bool {
        let heap = Span { start: self.heap.start, end: self.brk.next_multiple_of(PAGE) };
        let data = |backing| matches!(backing, Backing::Pages(_) | Backing::Reserved);
        self.maps.holds(span)
            || heap.holds(span)
            || (Span { start: self.image.start, end: self.heap.start }.holds(span)
                && self.regions.cover(span, data))
    }

    /// Whether `more` bytes of pages can come while `less` go.
    fn affordable(&self, more: u64, less: u64) -> Result<(), Errno> {
        let used = (self.used() - less).checked_add(more);
        if used.is_some_and(|used| used <= self.limit) { Ok(()) } else { Err(Errno::NOMEM) }
    }

    /// Puts `backing` in place of all that is in `span`, which the guest may replace.
    fn place<H: Host>(&mut self, host: &mut H, span: Span, backing: Backing) -> Result<(), Errno> {
        let Backing::Pages(prot) = backing else {
            return self.clear(host, span, Some(backing));
        };
        self.affordable(span.len(), self.regions.paged_within(span))?;
        self.regions.room(span, 1, false)?;
        host.map(span.start, span.len(), prot)?;
        self.regions.fill(span, Some(backing));
        Ok(())
    }

    /// Frees all pages in `span`, which the guest may replace, and leaves `backing` there, which has none.
    fn clear<H: Host>(&mut self, host: &mut H, span: Span, backing: Option<Backing>) -> Result<(), Errno> {
        if span.len() == 0 {
            return Ok(());
        }
        self.regions.room(span, usize::from(backing.is_some()), false)?;
        for run in self.regions.runs(span) {
            if let Err(error) = host.unmap(run.start, run.len()) {
                self.regions.fill(Span { start: span.start, end: run.start }, backing);
                return Err(error);
            }
        }
        self.regions.fill(span, backing);
        Ok(())
    }

    /// As `munmap`.
    pub(super) fn unmap<H: Host>(&mut self, host: &mut H, at: u64, len: u64) -> Result<(), Errno> {
        let span = Span::pages(at, len).map_err(|_| Errno::INVAL)?;
        if !self.may_replace(span) {
            return Err(Errno::INVAL);
        }
        self.clear(host, span, None)
    }

    /// As `mprotect`.
    pub(super) fn protect<H: Host>(
        &mut self,
        host: &mut H,
        at: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), Errno> {
        if at.is_multiple_of(PAGE) && len == 0 {
            return Ok(());
        }
        let span = Span::pages(at, len)?;
        if !self.regions.cover(span, |_| true) {
            return Err(Errno::NOMEM);
        }
        if self.stack.meets(span) || !self.regions.cover(span, |backing| backing != Backing::Code) {
            return Err(Errno::ACCESS);
        }
        if prot != Prot::None {
            self.affordable(span.len(), self.regions.paged_within(span))?;
        }
        self.regions.room(span, 0, true)?;
        self.regions.rewrite(span, |Region { span, backing }| {
            match backing {
                Backing::Reserved if prot == Prot::None => return Ok(backing),
                Backing::Reserved => host.map(span.start, span.len(), prot)?,
                _ if backing == Backing::Pages(prot) => {}
                Backing::Pages(_) | Backing::Code => host.protect(span.start, span.len(), prot)?,
            }
            Ok(Backing::Pages(prot))
        })
    }

    /// As `madvise(MADV_DONTNEED)`: the pages read as zeros.
    pub(super) fn discard<H: Host>(&mut self, host: &mut H, at: u64, len: u64) -> Result<(), Errno> {
        if at.is_multiple_of(PAGE) && len == 0 {
            return Ok(());
        }
        let span = Span::pages(at, len)?;
        if !self.regions.cover(span, |_| true) {
            return Err(Errno::NOMEM);
        }
        if !self.may_replace(span) || span.start < self.heap.start {
            return Err(Errno::INVAL);
        }
        self.regions.runs(span).into_iter().try_for_each(|run| host.discard(run.start, run.len()))
    }

    /// As `mremap`, with or without leave to move. Says where the mapping is now.
    pub(super) fn remap<H: Host>(
        &mut self,
        host: &mut H,
        at: u64,
        (old_len, new_len): (u64, u64),
        may_move: bool,
    ) -> Result<u64, Errno> {
        let (old, new) = (Span::pages(at, old_len)?, Span::pages(at, new_len)?);
        let backing = self.regions.within(old).next().map(|region| region.backing).ok_or(Errno::FAULT)?;
        if !self.maps.holds(old) || !self.regions.cover(old, |other| other == backing) {
            return Err(Errno::FAULT);
        }
        if new.end <= old.end {
            self.clear(host, Span { start: new.end, end: old.end }, None)?;
            return Ok(at);
        }
        let grown = Span { start: old.end, end: new.end };
        if self.maps.holds(grown) && self.regions.is_free(grown) {
            self.place(host, grown, backing)?;
            return Ok(at);
        }
        if !may_move {
            return Err(Errno::NOMEM);
        }
        let to = self.regions.gap(self.maps, new.len()).ok_or(Errno::NOMEM)?;
        let middle = to.start + old.len();
        // What was there is one region, and free is what is taken.
        self.regions.room(to, 2, true)?;
        let tail = Span { start: middle, end: to.end };
        self.place(host, tail, backing)?;
        if backing != Backing::Reserved
            && let Err(error) = host.relocate(old.start, to.start, old.len())
        {
            self.clear(host, tail, None)?;
            return Err(error);
        }
        self.regions.fill(old, None);
        self.regions.fill(to, Some(backing));
        Ok(to.start)
    }
}

impl From<Access> for Backing {
    fn from(access: Access) -> Backing {
        match access {
            Access::Read => Backing::Pages(Prot::Read),
            Access::ReadWrite => Backing::Pages(Prot::ReadWrite),
            Access::Execute => Backing::Code,
        }
    }
}
