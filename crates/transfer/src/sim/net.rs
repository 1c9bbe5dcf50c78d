//! Connections and chance.

use std::collections::VecDeque;
use std::time::Duration;

use baton_pool::region::View;

use crate::wire::hello::Lane;

/// Bytes that one direction takes before they are read.
const WINDOW: usize = 6000;

pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(0x9E37_79B9_7F4A_7C15))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// What travels: bytes, or pages that are read when they arrive.
pub(super) enum Part {
    Bytes(Vec<u8>),
    Pages(View),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Pages(view) => usize::try_from(view.len()).unwrap(),
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Way {
    flight: VecDeque<(Duration, Part)>,
    arrived: Vec<u8>,
    travelling: usize,
    pub(super) written: u64,
    /// With the other side's kernel.
    pub(super) acknowledged: u64,
    last_at: Duration,
}

impl Way {
    /// Bytes that may be written now.
    pub(super) fn room(&self) -> usize {
        WINDOW.saturating_sub(self.travelling + self.arrived.len())
    }

    pub(super) fn write(&mut self, part: Part, at: Duration) {
        // In order, however long each takes.
        self.last_at = self.last_at.max(at);
        self.travelling += part.len();
        self.written += part.len() as u64;
        self.flight.push_back((self.last_at, part));
    }

    pub(super) fn deliver(&mut self, now: Duration) {
        while self.flight.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, part)) = self.flight.pop_front() else { return };
            self.travelling -= part.len();
            self.acknowledged += part.len() as u64;
            match part {
                Part::Bytes(bytes) => self.arrived.extend(bytes),
                Part::Pages(view) => self.arrived.extend(view.to_vec()),
            }
        }
    }

    pub(super) fn read(&mut self, max: usize) -> Vec<u8> {
        let len = self.arrived.len().min(max);
        let rest = self.arrived.split_off(len);
        std::mem::replace(&mut self.arrived, rest)
    }
}

pub(super) struct Conn {
    pub(super) lane: Lane,
    /// Who dialled, and who was dialled.
    pub(super) ends: [usize; 2],
    /// Their incarnations.
    pub(super) lives: [u64; 2],
    pub(super) open_at: Duration,
    pub(super) opened: bool,
    pub(super) dead: bool,
    /// From who dialled, and back.
    pub(super) ways: [Way; 2],
}

impl Conn {
    /// Everything on its way is lost.
    pub(super) fn kill(&mut self) {
        self.dead = true;
        self.ways = Default::default();
    }
}
