//! The receiver's end of all bulk lanes to one peer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use crate::call::Violation;
use crate::limits::{ACK_WITHIN, ACKS_MAX, Limits, STRIPES, STRIPES_MAX};
use crate::reference::{Reference, Token};
use crate::vault::{Now, Refusal};
use crate::wire::bulk::{self, End, Pull, put_abort, put_ack, put_credit, put_pull};
use crate::wire::{Header, Kind};

/// A connection.
pub type LaneId = u64;
/// A pull of this fetcher.
pub type PullId = u64;

/// Why bytes did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullError {
    /// No such peer.
    NotConnected,
    /// Not all of them came in time.
    Late,
    /// The holder does not give them out.
    Refused(Refusal),
    /// The room is smaller than what the reference names.
    TooLarge {
        /// Bytes to come.
        len: u64,
        /// Bytes of the room.
        room: u64,
    },
    /// As many pulls as there may be are under way.
    Crowded,
    /// The endpoint ended, or the peer is none any more.
    Lost,
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PullError::NotConnected => f.write_str("the payload's holder is no node of the cluster"),
            PullError::Late => f.write_str("the payload did not come in time"),
            PullError::Refused(refusal) => write!(f, "the payload's holder does not give it out: {refusal}"),
            PullError::TooLarge { len, room } => write!(f, "the payload has {len} bytes, its room {room}"),
            PullError::Crowded => f.write_str("too many payloads are being pulled; retry later"),
            PullError::Lost => f.write_str("the connection to the payload's holder is given up"),
        }
    }
}

impl std::error::Error for PullError {}

/// Where the body of a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// To `at` of the pull's room.
    Room {
        /// The pull.
        pull: PullId,
        /// The first byte.
        at: u64,
        /// So many; never more than there is room for.
        len: u64,
    },
    /// Nowhere: nobody wants it any more.
    Nowhere {
        /// So many bytes.
        len: u64,
    },
    /// To be read, and handed to [`Fetcher::ended`].
    End {
        /// Of the stripe.
        stripe: u64,
    },
}

struct Stripe {
    pull: PullId,
    /// The byte that is wanted next.
    at: u64,
    end: u64,
    /// What the holder may send without being asked, behind `at`.
    granted: u64,
    lane: Option<LaneId>,
}

struct Wanted {
    reference: Reference,
    retrieval: u64,
    deadline: Now,
    stripes: usize,
    resumed: bool,
}

struct Ack {
    token: Token,
    retrieval: u64,
    until: Now,
}

#[derive(Default)]
struct Lane {
    out: Vec<u8>,
    stripes: usize,
    moved: Now,
}

/// The pulls from one peer.
pub struct Fetcher {
    pulls: BTreeMap<PullId, Wanted>,
    stripes: BTreeMap<u64, Stripe>,
    lanes: BTreeMap<LaneId, Lane>,
    acks: VecDeque<Ack>,
    /// Those that a lane took, and may lose.
    acks_taken: VecDeque<(LaneId, Ack)>,
    done: VecDeque<(PullId, Result<(), PullError>)>,
    /// Stripes of this fetcher's past that a lane may still send: their bytes go nowhere.
    aborted: HashMap<u64, LaneId>,
    next_pull: PullId,
    next_stripe: u64,
    window: u64,
    stripes_max: usize,
    stripe_from: u64,
    progress_within: Now,
    resumed: u64,
}

fn stripes(limits: &Limits, near: bool) -> usize {
    limits.stripes.unwrap_or(if near { 1 } else { STRIPES }).clamp(1, STRIPES_MAX)
}

impl Fetcher {
    /// Nothing is under way, no lane is open. `near`: the peer is on this machine.
    #[must_use]
    pub fn new(limits: &Limits, near: bool) -> Fetcher {
        Fetcher {
            pulls: BTreeMap::new(),
            stripes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            acks: VecDeque::new(),
            acks_taken: VecDeque::new(),
            done: VecDeque::new(),
            aborted: HashMap::new(),
            next_pull: 1,
            next_stripe: 1,
            window: limits.window.max(1),
            stripes_max: stripes(limits, near),
            stripe_from: limits.stripe_from.max(1),
            progress_within: limits.progress_within,
            resumed: 0,
        }
    }

    /// From now on pulls are spread as over a peer that is on this machine, or on another one.
    pub fn spread(&mut self, limits: &Limits, near: bool) {
        self.stripes_max = stripes(limits, near);
    }

    /// Begins a pull; `retrieval` is drawn at random for it.
    pub fn begin(&mut self, now: Now, reference: Reference, retrieval: u64, deadline: Now) -> PullId {
        let pull = self.next_pull;
        self.next_pull += 1;
        let count = if reference.len >= self.stripe_from { self.stripes_max as u64 } else { 1 };
        let share = reference.len.div_ceil(count).next_multiple_of(4096).max(1);
        let mut at = 0;
        let mut stripes = 0;
        while at < reference.len {
            let end = (at + share).min(reference.len);
            let stripe = Stripe { pull, at, end, granted: 0, lane: None };
            self.stripes.insert(self.next_stripe, stripe);
            self.next_stripe += 1;
            (at, stripes) = (end, stripes + 1);
        }
        self.pulls.insert(pull, Wanted { reference, retrieval, deadline, stripes, resumed: false });
        if stripes == 0 {
            self.finish(now, pull);
        }
        self.assign(now);
        pull
    }

    /// Nobody wants a pull any more.
    pub fn abort(&mut self, pull: PullId) {
        self.pulls.remove(&pull);
        let stripes = self.stripes.iter().filter(|(_, stripe)| stripe.pull == pull);
        let ids: Vec<u64> = stripes.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(stripe) = self.stripes.remove(&id) else { continue };
            let Some(lane) = stripe.lane else { continue };
            if let Some(state) = self.lanes.get_mut(&lane) {
                put_abort(&mut state.out, id);
                state.stripes -= 1;
                self.aborted.insert(id, lane);
            }
        }
    }

    /// Tells the holder that what `reference` names will not be pulled, or was.
    pub fn release(&mut self, now: Now, reference: &Reference, retrieval: u64) {
        if self.acks.len() >= ACKS_MAX {
            self.acks.pop_front();
        }
        self.acks.push_back(Ack { token: reference.token, retrieval, until: now + ACK_WITHIN });
    }

    fn finish(&mut self, now: Now, pull: PullId) {
        if let Some(wanted) = self.pulls.remove(&pull) {
            self.release(now, &wanted.reference, wanted.retrieval);
            self.done.push_back((pull, Ok(())));
        }
    }

    /// A lane is open.
    pub fn lane_up(&mut self, now: Now, lane: LaneId) {
        self.lanes.insert(lane, Lane { moved: now, ..Lane::default() });
        self.assign(now);
    }

    /// A lane is no more. Its stripes go on over others, its acknowledgements are said again.
    pub fn lane_down(&mut self, now: Now, lane: LaneId) {
        self.lanes.remove(&lane);
        self.aborted.retain(|_, of| *of != lane);
        let mut moved = Vec::new();
        for (id, stripe) in &mut self.stripes {
            if stripe.lane == Some(lane) {
                (stripe.lane, stripe.granted) = (None, 0);
                moved.push(*id);
            }
        }
        // A new number: what the old one asked for must not be mistaken for this.
        for id in moved {
            let Some(stripe) = self.stripes.remove(&id) else { continue };
            if let Some(wanted) = self.pulls.get_mut(&stripe.pull).filter(|wanted| !wanted.resumed) {
                wanted.resumed = true;
                self.resumed += 1;
            }
            self.stripes.insert(self.next_stripe, stripe);
            self.next_stripe += 1;
        }
        for (taken_by, ack) in core::mem::take(&mut self.acks_taken) {
            if taken_by == lane {
                self.acks.push_back(ack);
            } else {
                self.acks_taken.push_back((taken_by, ack));
            }
        }
        self.assign(now);
    }

    /// Gives stripes without a lane to those lanes that have the fewest.
    fn assign(&mut self, now: Now) {
        let waiting = self.stripes.iter_mut().filter(|(_, stripe)| stripe.lane.is_none());
        for (id, stripe) in waiting {
            let Some((lane, state)) = self.lanes.iter_mut().min_by_key(|(_, state)| state.stripes) else {
                return;
            };
            let Some(wanted) = self.pulls.get(&stripe.pull) else { continue };
            if state.stripes == 0 {
                state.moved = now;
            }
            stripe.lane = Some(*lane);
            stripe.granted = self.window;
            state.stripes += 1;
            let (token, retrieval) = (wanted.reference.token, wanted.retrieval);
            let (offset, len) = (stripe.at, stripe.end - stripe.at);
            put_pull(&mut state.out, *id, &Pull { token, retrieval, offset, len, window: self.window });
        }
    }

    /// A header came on `lane`: where its body goes.
    ///
    /// # Errors
    /// [`Violation`]: the lane is to be closed.
    pub fn receive(&mut self, now: Now, lane: LaneId, header: &Header) -> Result<Sink, Violation> {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.moved = now;
        }
        let len = u64::from(header.len);
        let id = header.id;
        let stripe = self.stripes.get(&id).filter(|stripe| stripe.lane == Some(lane));
        match (header.kind, stripe) {
            (Kind::Piece, Some(stripe)) => {
                if len == 0 || len > stripe.granted || len > stripe.end - stripe.at {
                    return Err(Violation::NotAsked);
                }
                Ok(Sink::Room { pull: stripe.pull, at: stripe.at, len })
            }
            (Kind::Piece, None) if self.aborted.get(&id) == Some(&lane) => Ok(Sink::Nowhere { len }),
            (Kind::End, Some(_)) => Ok(Sink::End { stripe: id }),
            (Kind::End, None) if self.aborted.get(&id) == Some(&lane) => Ok(Sink::End { stripe: id }),
            _ => Err(Violation::NotAsked),
        }
    }

    /// Which pull's room takes the next byte of `stripe`, and where; `None` if nobody wants it any more.
    #[must_use]
    pub fn place(&self, lane: LaneId, stripe: u64) -> Option<(PullId, u64)> {
        let found = self.stripes.get(&stripe).filter(|found| found.lane == Some(lane))?;
        Some((found.pull, found.at))
    }

    /// `len` bytes of the piece whose header named `stripe` are in the room. `false`: nobody wants the rest any more.
    pub fn arrived(&mut self, now: Now, lane: LaneId, stripe: u64, len: u64) -> bool {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.moved = now;
        }
        let Some(found) = self.stripes.get_mut(&stripe).filter(|found| found.lane == Some(lane)) else {
            return false;
        };
        found.at += len;
        found.granted = found.granted.saturating_sub(len);
        let (pull, left) = (found.pull, found.end - found.at);
        if left > 0 {
            // Asked for in halves, so that the holder need not stop.
            if found.granted < self.window / 2 && found.granted < left {
                let more = self.window - found.granted;
                found.granted = self.window;
                if let Some(state) = self.lanes.get_mut(&lane) {
                    put_credit(&mut state.out, stripe, more);
                }
            }
            return true;
        }
        self.stripes.remove(&stripe);
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.stripes -= 1;
        }
        if let Some(wanted) = self.pulls.get_mut(&pull) {
            wanted.stripes -= 1;
            if wanted.stripes == 0 {
                self.finish(now, pull);
            }
        }
        true
    }

    /// The body of an end came.
    ///
    /// # Errors
    /// [`Violation`] if it does not say why.
    pub fn ended(&mut self, stripe: u64, body: &[u8]) -> Result<(), Violation> {
        let why = match bulk::end(body)? {
            End::Aborted if self.aborted.remove(&stripe).is_some() => return Ok(()),
            End::Aborted => return Err(Violation::NotAsked),
            End::Refused(why) => why,
        };
        let Some(pull) = self.stripes.get(&stripe).map(|stripe| stripe.pull) else { return Ok(()) };
        // The holder is done with this one.
        if let Some(Stripe { lane: Some(lane), .. }) = self.stripes.remove(&stripe)
            && let Some(state) = self.lanes.get_mut(&lane)
        {
            state.stripes -= 1;
        }
        self.abort(pull);
        self.done.push_back((pull, Err(PullError::Refused(why))));
        Ok(())
    }

    /// Time passes. Lanes on which nothing moves though it should: they are to be closed.
    pub fn tick(&mut self, now: Now) -> Vec<LaneId> {
        let late: Vec<PullId> =
            self.pulls.iter().filter(|(_, wanted)| wanted.deadline <= now).map(|(id, _)| *id).collect();
        for pull in late {
            self.abort(pull);
            self.done.push_back((pull, Err(PullError::Late)));
        }
        self.acks.retain(|ack| ack.until > now);
        while self.acks_taken.front().is_some_and(|(_, ack)| ack.until <= now) {
            self.acks_taken.pop_front();
        }
        let stuck = |lane: &Lane| lane.stripes > 0 && now.saturating_sub(lane.moved) >= self.progress_within;
        self.lanes.iter().filter(|(_, lane)| stuck(lane)).map(|(id, _)| *id).collect()
    }

    /// Appends what `lane` has to send to `out`.
    pub fn transmit(&mut self, lane: LaneId, out: &mut Vec<u8>) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        out.append(&mut state.out);
        for ack in self.acks.drain(..) {
            put_ack(out, ack.retrieval, &ack.token);
            if self.acks_taken.len() >= ACKS_MAX {
                self.acks_taken.pop_front();
            }
            self.acks_taken.push_back((lane, ack));
        }
    }

    /// Whether `lane` has something to send.
    #[must_use]
    pub fn pending(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(|state| !self.acks.is_empty() || !state.out.is_empty())
    }

    /// The next pull that is over.
    pub fn done(&mut self) -> Option<(PullId, Result<(), PullError>)> {
        self.done.pop_front()
    }

    /// Lanes that would be of use now.
    #[must_use]
    pub fn lanes_wanted(&self) -> usize {
        if self.stripes.len() > 1 && self.stripes.len() > self.pulls.len() {
            return self.stripes_max;
        }
        usize::from(!self.stripes.is_empty() || !self.acks.is_empty())
    }

    /// Lanes that are open.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether nothing of `lane` is under way, and since when nothing moved.
    #[must_use]
    pub fn idle(&self, lane: LaneId) -> Option<Now> {
        self.lanes
            .get(&lane)
            .filter(|state| state.stripes == 0 && state.out.is_empty())
            .map(|state| state.moved)
    }

    /// Pulls that are not over.
    #[must_use]
    pub fn pulls(&self) -> usize {
        self.pulls.len()
    }

    /// Acknowledgements that may not have come through.
    #[must_use]
    pub fn acks(&self) -> usize {
        self.acks.len() + self.acks_taken.len()
    }

    /// Pulls that went on over another lane, since the last time that this was asked.
    pub fn take_resumed(&mut self) -> u64 {
        core::mem::take(&mut self.resumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pulls_are_spread_to_another_machine_only() {
        let limits = Limits::default();
        let mut fetcher = Fetcher::new(&limits, true);
        let mut lanes = |near| {
            fetcher.spread(&limits, near);
            let large = Reference { token: Token::from_bytes([7; 32]), len: limits.stripe_from };
            let pull = fetcher.begin(Now::ZERO, large, 1, Now::MAX);
            let wanted = fetcher.lanes_wanted();
            fetcher.abort(pull);
            wanted
        };
        assert_eq!([lanes(true), lanes(false), lanes(true)], [1, STRIPES, 1]);
    }
}
