//! The holder's end of a bulk lane.
//!
//! The kernel reads the pages that it was told to send for as long as the peer has not taken them. So a lease goes only when
//! the peer's kernel has acknowledged the last of its bytes, or after the connection was reset. [`Sender::check`] says which.

use std::collections::{HashMap, VecDeque};

use crate::call::Violation;
use crate::counts::{Counted, Counters};
use crate::limits::{ALONE, CHUNK_MAX, Limits, OUT_FRAMES_MAX, SETTLE_WITHIN};
use crate::payload::Held;
use crate::vault::{Lease, Now, Refusal, Vault, Wanted};
use crate::wire::bulk::{End, Pull, ToHolder, put_end};
use crate::wire::{HEADER, Header, Kind};

/// What is to be written next.
#[derive(Clone, Debug)]
pub enum Sending {
    /// Small frames.
    Frames(Vec<u8>),
    /// A header, and the bytes `offset..offset + len` behind it.
    Chunk {
        /// Of the piece.
        header: [u8; HEADER],
        /// What they are taken from.
        held: Held,
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
    },
}

/// What is to become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Fine,
    /// It goes on; look again soon, bytes are on their way.
    Settling,
    /// It is to be reset, before this sender is dropped: memory that it sends from has to go.
    Reset,
}

struct Outgoing {
    lease: Lease,
    retrieval: u64,
    at: u64,
    end: u64,
    credit: u64,
    ready: bool,
    /// Where in the connection's bytes its last piece ended.
    sent_to: u64,
}

struct Settling {
    lease: Lease,
    sent_to: u64,
    since: Now,
}

/// The pulls of one connection.
pub struct Sender {
    peer: String,
    pulls: HashMap<u64, Outgoing>,
    ready: VecDeque<u64>,
    ends: VecDeque<(u64, End)>,
    settling: VecDeque<Settling>,
    /// The end of all that was handed out by `next`, in the connection's bytes.
    handed: u64,
    last: u64,
    chunk: u64,
    pulls_max: usize,
    moved: Now,
}

impl Sender {
    /// For a connection that was just opened by `peer`.
    #[must_use]
    pub fn new(now: Now, peer: &str, limits: &Limits) -> Sender {
        Sender {
            peer: peer.to_owned(),
            pulls: HashMap::new(),
            ready: VecDeque::new(),
            ends: VecDeque::new(),
            settling: VecDeque::new(),
            handed: 0,
            last: 0,
            chunk: limits.chunk.clamp(1, CHUNK_MAX),
            pulls_max: limits.pulls_per_lane,
            moved: now,
        }
    }

    /// Takes in a frame.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        id: u64,
        frame: ToHolder,
        vault: &mut Vault,
        counters: &Counters,
    ) -> Result<(), Violation> {
        self.moved = now;
        match frame {
            ToHolder::Pull(pull) => {
                if id <= self.last {
                    return Err(Violation::Number);
                }
                self.last = id;
                counters.one(Counted::PullsServed);
                if let Err(refusal) = self.pull(now, id, pull, vault) {
                    counters.refused(refusal);
                    self.ends.push_back((id, End::Refused(refusal)));
                }
            }
            ToHolder::Credit(bytes) => {
                let Some(outgoing) = self.pulls.get_mut(&id) else { return Ok(()) };
                outgoing.credit = outgoing.credit.saturating_add(bytes);
                if !outgoing.ready && outgoing.at < outgoing.end {
                    outgoing.ready = true;
                    self.ready.push_back(id);
                }
            }
            ToHolder::Abort if id > self.last => return Err(Violation::Number),
            // Said back, so that the receiver knows when nothing of it comes any more.
            ToHolder::Abort => {
                self.retire(now, id);
                self.ends.push_back((id, End::Aborted));
            }
            ToHolder::Ack(token) => {
                let unsent = |pull: &Outgoing| pull.lease.token == token.id() && pull.retrieval == id;
                if self.pulls.values().any(unsent) {
                    return Err(Violation::Early);
                }
                if let Err(refusal) = vault.acknowledge(now, &self.peer, token, id) {
                    counters.refused(refusal);
                }
            }
        }
        Ok(())
    }

    fn pull(&mut self, now: Now, id: u64, pull: Pull, vault: &mut Vault) -> Result<(), Refusal> {
        if self.pulls.len() >= self.pulls_max {
            return Err(Refusal::Crowded);
        }
        let Pull { token, retrieval, offset, len, window } = pull;
        let lease = vault.open(now, Wanted { peer: &self.peer, token, retrieval, offset, len })?;
        let ready = window > 0 && len > 0;
        let (at, end, credit) = (offset, offset + len, window);
        self.pulls.insert(id, Outgoing { lease, retrieval, at, end, credit, ready, sent_to: 0 });
        if ready {
            self.ready.push_back(id);
        }
        Ok(())
    }

    /// Ends a pull; what was sent of it settles.
    fn retire(&mut self, now: Now, id: u64) {
        if let Some(Outgoing { lease, sent_to, .. }) = self.pulls.remove(&id) {
            self.settling.push_back(Settling { lease, sent_to, since: now });
        }
    }

    /// What is to be written next, in full and before anything else. Pulls take turns, one chunk each; for one that is alone chunks are longer.
    pub fn next(&mut self, now: Now) -> Option<Sending> {
        if !self.ends.is_empty() {
            let mut frames = Vec::new();
            self.ends.drain(..).for_each(|(id, why)| put_end(&mut frames, id, why));
            self.handed += frames.len() as u64;
            return Some(Sending::Frames(frames));
        }
        let (id, pull) = loop {
            let id = self.ready.pop_front()?;
            let Some(pull) = self.pulls.get_mut(&id) else { continue };
            pull.ready = false;
            // Nothing is taken from a hold that is over; `check` decides what becomes of what was taken before.
            if !pull.lease.over() {
                break (id, pull);
            }
        };
        let chunk =
            if self.ready.is_empty() { self.chunk.saturating_mul(ALONE).min(CHUNK_MAX) } else { self.chunk };
        let len = chunk.min(pull.end - pull.at).min(pull.credit);
        let offset = pull.at;
        let header = Header { kind: Kind::Piece, len: u32::try_from(len).unwrap_or(0), id }.bytes();
        pull.at += len;
        pull.credit -= len;
        self.handed += HEADER as u64 + len;
        pull.sent_to = self.handed;
        let held = pull.lease.held.clone();
        if pull.at == pull.end {
            self.retire(now, id);
        } else if pull.credit > 0 {
            pull.ready = true;
            self.ready.push_back(id);
        }
        self.moved = now;
        Some(Sending::Chunk { header, held, offset, len })
    }

    /// Lets leases go whose bytes nobody reads from the pool any more. `written` is how many of the connection's bytes the kernel was
    /// given, `acknowledged` how many of those it reads no more. Judges what cannot go.
    pub fn check(&mut self, now: Now, written: u64, acknowledged: u64) -> Verdict {
        self.settling.retain(|settling| settling.sent_to > acknowledged);
        // Who acknowledged has all bytes: what is over and not written in full was taken back.
        let stuck = |settling: &Settling| {
            let waits = now.saturating_sub(settling.since) >= SETTLE_WITHIN;
            settling.lease.over() && (settling.sent_to > written || waits)
        };
        let over: Vec<u64> =
            self.pulls.iter().filter(|(_, pull)| pull.lease.over()).map(|(id, _)| *id).collect();
        for id in over {
            let Some(pull) = self.pulls.remove(&id) else { continue };
            if pull.sent_to > acknowledged {
                // Put back: it must outlive the connection.
                self.pulls.insert(id, pull);
                return Verdict::Reset;
            }
            self.ends.push_back((id, End::Refused(Refusal::Revoked)));
        }
        if self.settling.iter().any(stuck) {
            return Verdict::Reset;
        }
        if self.settling.is_empty() { Verdict::Fine } else { Verdict::Settling }
    }

    /// Whether memory would go under the kernel's hands if this were dropped with the connection closed in good order.
    #[must_use]
    pub fn unsettled(&self, acknowledged: u64) -> bool {
        let pulls = self.pulls.values().map(|pull| pull.sent_to);
        pulls
            .chain(self.settling.iter().map(|settling| settling.sent_to))
            .any(|sent_to| sent_to > acknowledged)
    }

    /// Whether frames may be taken in: not while answers pile up that the peer does not read.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.ends.len() < OUT_FRAMES_MAX
    }

    /// Whether [`Sender::next`] has something.
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.ends.is_empty() || !self.ready.is_empty()
    }

    /// Pulls that are not sent in full.
    #[must_use]
    pub fn pulls(&self) -> usize {
        self.pulls.len()
    }

    /// When something of a pull last moved.
    #[must_use]
    pub fn moved(&self) -> Now {
        self.moved
    }
}
