//! Links and edges: a pair of rings in one small region.
//!
//! ```text
//!  byte 0        64           128            256            1024      4096                 4096 + entries × 64
//!       header   node's bell  positions →    positions ←    figures   slots →              slots ←
//! ```
//! The *near* side (the node of a link, the caller of an edge) sends on →, the *far* side on ←.
//! The node's bell is used on links only: replicas have bells of their own, which their peers map.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use baton_abi::limits::{RING_MAX, RING_MIN};

use crate::bell::{Bell, BellLayout};
use crate::figures::{Figures, ROWS, Rows};
use crate::placed::{Placed, SharedLayout};
use crate::region::{self, Access, Mapping, RegionError};
use crate::ring::{Consumer, Positions, Producer, RingSlot};
use crate::sync::{AtomicU32, Ordering};

const BELL_AT: u64 = 64;
const POSITIONS_AT: u64 = 128;
const POSITIONS_BYTES: u64 = 128;
const FIGURES_AT: u64 = 1024;
const SLOTS_AT: u64 = 4096;
const SLOT_BYTES: u64 = 64;

const _: () = assert!(FIGURES_AT + (ROWS * size_of::<Figures>()) as u64 <= SLOTS_AT);

/// The shared flags of a link or edge.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Header {
    closed: AtomicU32,
    drained: AtomicU32,
    retiring: AtomicU32,
    _rest: [AtomicU32; 13],
}

// UNSAFETY: promises that a header may lie in memory that other processes write.
#[expect(unsafe_code, reason = "marks a structure as made of atomics only")]
// SAFETY: `repr(C)`, atomics only, every bit pattern is valid.
unsafe impl SharedLayout for Header {}

/// Which side of a link or edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The node, or the caller.
    Near,
    /// The replica, or the callee.
    Far,
}

/// One side of a link or edge.
#[derive(Debug)]
pub struct Duplex {
    /// Where this side sends.
    pub to_peer: Producer,
    /// Where this side receives.
    pub from_peer: Consumer,
    flags: DuplexFlags,
    /// The node's bell (links only).
    pub node_bell: Bell,
    figures: Placed<Figures>,
}

/// The flags of a link or edge, which the node can set without taking part.
#[derive(Debug)]
pub struct DuplexFlags {
    header: Placed<Header>,
}

impl DuplexFlags {
    /// Node: one of the two sides is gone.
    pub fn close(&self) {
        if let Some(header) = self.header.first() {
            header.closed.store(1, Ordering::Release);
        }
    }

    /// Whether the node said that the other side is gone.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.header.first().is_none_or(|header| header.closed.load(Ordering::Acquire) != 0)
    }

    /// Node: the callee shall get no more calls, or may get some again; what it has goes on.
    pub fn retire(&self, is_retiring: bool) {
        if let Some(header) = self.header.first() {
            header.retiring.store(u32::from(is_retiring), Ordering::Release);
        }
    }

    /// Caller: whether the node said that no more calls shall be sent.
    #[must_use]
    #[inline]
    pub fn is_retiring(&self) -> bool {
        self.header.first().is_some_and(|header| header.retiring.load(Ordering::Acquire) != 0)
    }

    /// The side that is left: nothing that the other side sent is unseen any more.
    pub fn mark_drained(&self) {
        if let Some(header) = self.header.first() {
            header.drained.store(1, Ordering::Release);
        }
    }

    /// Whether the side that is left has seen everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.header.first().is_none_or(|header| header.drained.load(Ordering::Acquire) != 0)
    }
}

/// Bytes of a region with two rings of `entries`.
#[must_use]
pub fn duplex_bytes(entries: u32) -> u64 {
    SLOTS_AT + 2 * u64::from(entries) * SLOT_BYTES
}

/// The number of ring entries that carries at least `wanted` descriptors.
#[must_use]
pub fn ring_entries_for(wanted: u32) -> u32 {
    wanted.clamp(RING_MIN, RING_MAX).next_power_of_two()
}

/// Makes the region of a link or edge.
///
/// # Errors
/// [`RegionError`] as the kernel says it.
pub fn create(name: &str, entries: u32) -> Result<OwnedFd, RegionError> {
    region::create(name, duplex_bytes(entries), false)
}

fn malformed() -> RegionError {
    RegionError { step: "laying out a ring", errno: rustix::io::Errno::INVAL }
}

impl Duplex {
    /// Maps one side of the link or edge in `fd`.
    ///
    /// # Errors
    /// [`RegionError`] if `entries` is not a size that [`ring_entries_for`] gives, or the file is too small.
    pub fn map(fd: impl AsFd, entries: u32, side: Side) -> Result<Duplex, RegionError> {
        if !entries.is_power_of_two() || !(RING_MIN..=RING_MAX).contains(&entries) {
            return Err(malformed());
        }
        let bytes = usize::try_from(duplex_bytes(entries)).map_err(|_| malformed())?;
        let mapping = Arc::new(Mapping::new(fd, bytes, Access::ReadWrite)?);
        let positions =
            |which: u64| Placed::<Positions>::mapped(&mapping, POSITIONS_AT + which * POSITIONS_BYTES, 1);
        let slots = |which: u64| {
            let at = SLOTS_AT + which * u64::from(entries) * SLOT_BYTES;
            Placed::<RingSlot>::mapped(&mapping, at, entries as usize)
        };
        let (out, back) = match side {
            Side::Near => (0, 1),
            Side::Far => (1, 0),
        };
        let build = || {
            let header = Placed::<Header>::mapped(&mapping, 0, 1)?;
            Some(Duplex {
                to_peer: Producer::new(positions(out)?, slots(out)?)?,
                from_peer: Consumer::new(positions(back)?, slots(back)?)?,
                flags: DuplexFlags { header },
                node_bell: Bell::new(Placed::<BellLayout>::mapped(&mapping, BELL_AT, 1)?)?,
                figures: Placed::mapped(&mapping, FIGURES_AT, ROWS)?,
            })
        };
        build().ok_or_else(malformed)
    }

    /// The flags.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> &DuplexFlags {
        &self.flags
    }

    /// The figures of an edge: those of row 0.
    #[must_use]
    #[inline]
    pub fn figures(&self) -> Option<&Figures> {
        self.figures.first()
    }

    /// The figures of all rows: in the link of a cell's seat, one row for each seat that it may call.
    #[must_use]
    #[inline]
    pub fn rows(&self) -> &[Figures] {
        &self.figures
    }

    /// A second view of those.
    #[must_use]
    pub fn share_rows(&self) -> Rows {
        Rows(self.figures.share())
    }
}

/// Maps the first page of an edge: what the node keeps of it, its flags and its figures.
///
/// # Errors
/// [`RegionError`] as the kernel says it.
pub fn map_head(fd: impl AsFd) -> Result<(DuplexFlags, Placed<Figures>), RegionError> {
    let mapping = Arc::new(Mapping::new(fd, 4096, Access::ReadWrite)?);
    let flags = DuplexFlags { header: Placed::mapped(&mapping, 0, 1).ok_or_else(malformed)? };
    Ok((flags, Placed::mapped(&mapping, FIGURES_AT, 1).ok_or_else(malformed)?))
}

/// Bytes of a bell's region.
pub const BELL_BYTES: u64 = 4096;

/// Makes a replica's bell.
///
/// # Errors
/// [`RegionError`] as the kernel says it.
pub fn create_bell(name: &str) -> Result<OwnedFd, RegionError> {
    region::create(name, BELL_BYTES, false)
}

/// Maps a replica's bell.
///
/// # Errors
/// [`RegionError`] as the kernel says it.
pub fn map_bell(fd: impl AsFd) -> Result<Bell, RegionError> {
    let mapping = Arc::new(Mapping::new(fd, 4096, Access::ReadWrite)?);
    Placed::mapped(&mapping, 0, 1).and_then(Bell::new).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_abi::{Descriptor, Kind};

    #[test]
    fn the_two_sides_of_a_region_meet() {
        let fd = create("test", 16).unwrap();
        let mut near = Duplex::map(&fd, 16, Side::Near).unwrap();
        let mut far = Duplex::map(&fd, 16, Side::Far).unwrap();
        let request = Descriptor { tag: 5, ..Descriptor::new(Kind::Request) };
        near.to_peer.push(&request).unwrap();
        assert_eq!(far.from_peer.pop(), Ok(Some(request)));
        far.to_peer.push(&request).unwrap();
        assert_eq!(near.from_peer.pop(), Ok(Some(request)));
        let (flags, figures) = map_head(&fd).unwrap();
        flags.close();
        assert!(near.flags().is_closed() && far.flags().is_closed());
        assert!(near.figures().is_some_and(|row| row.note_call(7)));
        assert_eq!(figures.first().map(Figures::counted), far.rows().first().map(Figures::counted));
        assert_eq!(figures.first().map(|row| row.counted().bytes), Some(7));
        assert!(!near.flags().is_retiring());
        flags.retire(true);
        assert!(near.flags().is_retiring());
        flags.retire(false);
        assert!(!near.flags().is_retiring());
    }

    #[test]
    fn ring_sizes_are_checked() {
        let fd = create("test", 16).unwrap();
        assert!(Duplex::map(&fd, 3, Side::Near).is_err());
        assert!(Duplex::map(&fd, RING_MAX * 2, Side::Near).is_err());
        assert_eq!(ring_entries_for(0), RING_MIN);
        assert_eq!(ring_entries_for(u32::MAX), RING_MAX);
        assert_eq!(ring_entries_for(65), 128);
    }
}
