//! A node's pool: slots that are overwritten as soon as they are free.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use baton_pool::region::{self, Access, Mapping, View};

use crate::payload::{Held, Owner, Place, Room};

/// Bytes of a slot, the most that a payload has.
pub(super) const SLOT: u64 = SLOT_BYTES as u64;
const SLOT_BYTES: usize = 4096;
const SLOTS: usize = 48;
/// What a free slot is full of.
const SCRIBBLE: [u8; SLOT_BYTES] = [0xDD; SLOT_BYTES];

#[derive(Clone)]
pub(super) struct Memory {
    fd: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
    taken: Arc<Mutex<Vec<bool>>>,
}

struct Keep(Memory, usize);

impl Drop for Keep {
    fn drop(&mut self) {
        self.0.mapping.write(self.1 as u64 * SLOT, &SCRIBBLE);
        self.0.taken.lock().unwrap()[self.1] = false;
    }
}

/// The payload of `of`.
pub(super) fn payload(of: u64, len: u64) -> Vec<u8> {
    let words = 0..len.div_ceil(8);
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap() + 8);
    for at in words {
        let word = of.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (at + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

/// Whether `bytes` are the payload of `of`; fails with the first place where they are not.
pub(super) fn assert_payload(bytes: &[u8], of: u64, what: &str) {
    let expected = payload(of, bytes.len() as u64);
    if bytes != expected {
        let at = bytes.iter().zip(&expected).position(|(left, right)| left != right);
        panic!("{what}: wrong from byte {} of {} on", at.unwrap_or(0), bytes.len());
    }
}

impl Memory {
    pub(super) fn new() -> Memory {
        let bytes = SLOTS * SLOT_BYTES;
        let fd = region::create("sim", bytes as u64, false).unwrap();
        let mapping = Arc::new(Mapping::new(&fd, bytes, Access::ReadWrite).unwrap());
        Memory { fd: Arc::new(fd), mapping, taken: Arc::new(Mutex::new(vec![false; SLOTS])) }
    }

    fn take(&self) -> Option<Keep> {
        let mut taken = self.taken.lock().unwrap();
        let slot = taken.iter().position(|taken| !taken)?;
        taken[slot] = true;
        Some(Keep(self.clone(), slot))
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.lock().unwrap().iter().filter(|taken| **taken).count()
    }

    /// The payload of `of`, held; `None` if the pool is full.
    pub(super) fn held(&self, of: u64, len: u64) -> Option<Held> {
        let keep = self.take()?;
        let at = keep.1 as u64 * SLOT;
        assert!(self.mapping.write(at, &payload(of, len)));
        let view = View::new(&self.mapping, at, len).unwrap();
        let owner = Owner { app: "sim".to_owned(), buffer: u32::try_from(keep.1).unwrap(), generation: 1 };
        Some(Held::new(Place { view, pool: Arc::clone(&self.fd), at }, owner, Box::new(keep)))
    }

    pub(super) fn room(&self, len: u64) -> Option<(Room, u64)> {
        let keep = self.take()?;
        let at = keep.1 as u64 * SLOT;
        let room = region::Room::new(&self.mapping, at, len).unwrap();
        Some((Room::new(room, Box::new(keep)), at))
    }

    pub(super) fn read(&self, at: u64, len: u64) -> Vec<u8> {
        let mut out = vec![0; usize::try_from(len).unwrap()];
        assert!(self.mapping.read(at, &mut out));
        out
    }
}
