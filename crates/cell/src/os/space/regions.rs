//! Which pages a seat has: a sorted list of disjoint regions. Neighbours of one kind are one region.
//!
//! Nothing here has an effect; [`super::Space`] decides what may change and does it.

use super::Span;
use crate::os::{Errno, Prot};

/// Most regions. Each is a mapping of the kernel's at most, of which a process with 13 seats has 65,530.
pub(crate) const REGIONS_MAX: usize = 2048;

/// What is behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Nothing: the guest only keeps the addresses.
    Reserved,
    /// Pages, also where the guest may do nothing with them just now.
    Pages(Prot),
    /// Instructions of the image.
    Code,
}

impl Backing {
    /// Whether it counts against the memory limit.
    fn has_pages(self) -> bool {
        self != Backing::Reserved
    }
}

/// A range with one backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) span: Span,
    pub(crate) backing: Backing,
}

/// All regions of a seat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regions {
    list: Vec<Region>,
    /// Bytes with pages behind them.
    paged: u64,
    /// Grows with every change.
    version: u64,
}

impl Regions {
    pub(crate) fn restore(&mut self, from: &Regions) {
        self.list.clone_from(&from.list);
        self.paged = from.paged;
        self.version = from.version;
    }

    pub(crate) fn paged(&self) -> u64 {
        self.paged
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn all(&self) -> &[Region] {
        &self.list
    }

    /// The parts of regions that lie in `span`, in ascending order.
    pub(crate) fn within(&self, span: Span) -> impl Iterator<Item = Region> {
        let first = self.list.partition_point(|region| region.span.end <= span.start);
        let behind = self.list.get(first..).unwrap_or_default();
        behind.iter().take_while(move |region| region.span.start < span.end).map(move |region| Region {
            span: Span { start: region.span.start.max(span.start), end: region.span.end.min(span.end) },
            backing: region.backing,
        })
    }

    /// Whether all of `span` is in regions that `holds` says yes to. An empty one is.
    pub(crate) fn cover(&self, span: Span, holds: impl Fn(Backing) -> bool) -> bool {
        let mut at = span.start;
        for region in self.within(span) {
            if region.span.start != at || !holds(region.backing) {
                return false;
            }
            at = region.span.end;
        }
        at >= span.end
    }

    /// Whether no region lies in `span`.
    pub(crate) fn is_free(&self, span: Span) -> bool {
        self.within(span).next().is_none()
    }

    /// Bytes of `span` with pages behind them.
    pub(crate) fn paged_within(&self, span: Span) -> u64 {
        self.within(span).filter(|region| region.backing.has_pages()).map(|region| region.span.len()).sum()
    }

    /// The parts of `span` with pages behind them, neighbours as one whatever their protection.
    pub(crate) fn runs(&self, span: Span) -> Vec<Span> {
        let mut runs: Vec<Span> = Vec::new();
        for region in self.within(span).filter(|region| region.backing.has_pages()) {
            match runs.last_mut() {
                Some(last) if last.end == region.span.start => last.end = region.span.end,
                _ => runs.push(region.span),
            }
        }
        runs
    }

    /// The lowest free range of `len` bytes in `window`.
    pub(crate) fn gap(&self, window: Span, len: u64) -> Option<Span> {
        let mut at = window.start;
        for region in self.within(window) {
            if region.span.start - at >= len {
                break;
            }
            at = region.span.end;
        }
        let end = at.checked_add(len)?;
        (end <= window.end).then_some(Span { start: at, end })
    }

    /// Whether the table can hold `new` more regions in `span` in place of what is there (`keep`: beside it).
    pub(crate) fn room(&self, span: Span, new: usize, keep: bool) -> Result<(), Errno> {
        let inside = self.within(span).count();
        // A region that goes on beyond an end of the span is cut there.
        let is_cut = |at: u64| {
            let first = self.list.partition_point(|region| region.span.end <= at);
            self.list.get(first).is_some_and(|region| region.span.start < at)
        };
        let cuts = [span.start, span.end].into_iter().filter(|&at| is_cut(at)).count();
        let gone = if keep { 0 } else { inside };
        if self.list.len() - gone + cuts + new <= REGIONS_MAX { Ok(()) } else { Err(Errno::NOMEM) }
    }

    /// Puts one region, or nothing, in place of what was in `span`.
    pub(crate) fn fill(&mut self, span: Span, backing: Option<Backing>) {
        let middle = backing.map(|backing| Region { span, backing });
        self.replace(span, middle);
    }

    /// Gives each part of `span` that has a region the backing that `decide` says, until it fails; what it said before
    /// stands.
    pub(crate) fn rewrite<E>(
        &mut self,
        span: Span,
        mut decide: impl FnMut(Region) -> Result<Backing, E>,
    ) -> Result<(), E> {
        let mut outcome = Ok(());
        let mut middle: Vec<Region> = self.within(span).collect();
        for region in &mut middle {
            match decide(*region) {
                Ok(backing) => region.backing = backing,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.replace(span, middle);
        outcome
    }

    /// Puts `middle`, which lies in `span`, in place of what was there.
    fn replace(&mut self, span: Span, middle: impl IntoIterator<Item = Region>) {
        // The neighbours are taken in, so that they can grow together with what is new.
        let first = self.list.partition_point(|region| region.span.end < span.start);
        let behind = self.list.partition_point(|region| region.span.start <= span.end).max(first);
        let old = self.list.get(first..behind).unwrap_or_default();
        let left = old.first().and_then(|region| region.before(span.start));
        let right = old.last().and_then(|region| region.after(span.end));
        let mut new: Vec<Region> = Vec::new();
        for region in left.into_iter().chain(middle).chain(right) {
            match new.last_mut() {
                Some(last) if last.backing == region.backing && last.span.end == region.span.start => {
                    last.span.end = region.span.end;
                }
                _ => new.push(region),
            }
        }
        let paged = |list: &[Region]| -> u64 {
            list.iter().filter(|region| region.backing.has_pages()).map(|region| region.span.len()).sum()
        };
        self.paged = self.paged - paged(old) + paged(&new);
        self.version += 1;
        self.list.splice(first..behind, new);
    }
}

impl Region {
    /// What of it lies in front of `at`.
    fn before(&self, at: u64) -> Option<Region> {
        let end = self.span.end.min(at);
        (self.span.start < end).then_some(Region { span: Span { start: self.span.start, end }, ..*self })
    }

    /// What of it lies behind `at`.
    fn after(&self, at: u64) -> Option<Region> {
        let start = self.span.start.max(at);
        (start < self.span.end).then_some(Region { span: Span { start, end: self.span.end }, ..*self })
    }
}
