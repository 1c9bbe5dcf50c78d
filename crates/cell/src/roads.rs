//! Roads between seats and replicas in other processes: requests and answers over them.

use std::cell::RefCell;

use baton_abi::boot::NODE_PEER;
use baton_abi::cell::FromCell;
use baton_abi::{Descriptor, Extent, Flags, Kind as Message, Rights};
use baton_pool::capability::{Hold, State};
use baton_pool::road::Road;

use crate::hand::HandError;
use crate::runtime::{PER_TURN_MAX, Runtime};
use crate::seat::{Callee, Lent, Origin, Parallel, Seat, Target};

/// Calls that keep their caller so long, nanoseconds, are worth to be made in another cell: waking it and coming back costs a
/// tenth of that.
const WORTH_A_WAKE_NS: u64 = 50_000;
/// Of so many calls that would go to another cell one stays.
const MEASURED_EVERY: u32 = 16;
/// A call counts for one in so many of the running mean.
const MEAN_OF: u64 = 4;
/// Who answers where a failure is not the callee's own.
const BY_RUNTIME: u16 = 0;

impl Parallel {
    /// A call in this cell kept its caller so long, nanoseconds.
    pub(crate) fn note(&self, took_ns: u64) {
        let before = self.mean_ns.get();
        self.mean_ns.set(before - before / MEAN_OF + took_ns / MEAN_OF);
    }
}

/// Sends a descriptor over a road whose peer is there. A caller never has more calls out than its ring has entries; one that
/// lies loses its answer.
pub(crate) fn push_over(roads: &RefCell<Vec<Road>>, index: u32, descriptor: &Descriptor) {
    if let Some(road) = roads.borrow_mut().get_mut(index as usize).filter(|road| !road.dead) {
        let _ = road.push(descriptor);
    }
}

impl Runtime {
    /// Takes what other processes sent over a seat's roads.
    pub(crate) fn poll_roads(&self, seat: &Seat) {
        let (incoming, outgoing) = (count(seat.incoming.borrow().len()), count(seat.outgoing.borrow().len()));
        for index in 0..incoming {
            self.poll_incoming(seat, index);
        }
        for index in 0..outgoing {
            self.poll_outgoing(seat, index);
        }
    }

    fn poll_incoming(&self, seat: &Seat, index: u32) {
        for _ in 0..PER_TURN_MAX {
            let mut roads = seat.incoming.borrow_mut();
            let Some(road) = roads.get_mut(index as usize).filter(|road| !road.dead) else { return };
            let (id, peer, closed) = (road.id, road.peer, road.duplex.flags().is_closed());
            let popped = road.pop();
            if popped.is_none() && closed {
                road.dead = true;
                road.duplex.flags().mark_drained();
            }
            let dead = road.dead;
            drop(roads);
            if dead {
                self.forget_callers(seat, index);
                return;
            }
            let Some(d) = popped else { return };
            match Message::from_u8(d.kind) {
                Some(Message::Request) => {
                    let from = Hold::new(State::InFlight, id);
                    self.accept(seat, &d, Origin::Road { road: index, tag: d.tag }, from, peer);
                }
                Some(Message::Cancel) => self.cancel_request(seat, Origin::Road { road: index, tag: d.tag }),
                _ => {}
            }
        }
    }

    /// Nobody waits for the answers over a road any more.
    fn forget_callers(&self, seat: &Seat, index: u32) {
        let is_theirs = |origin: Origin| matches!(origin, Origin::Road { road, .. } if road == index);
        let tags = seat.requests.borrow().tags();
        for tag in tags {
            let origin = seat.requests.borrow().get(tag).map(|request| request.origin);
            if let Some(origin) = origin.filter(|origin| is_theirs(*origin)) {
                self.cancel_request(seat, origin);
            }
        }
    }

    fn poll_outgoing(&self, seat: &Seat, index: u32) {
        for _ in 0..PER_TURN_MAX {
            let mut roads = seat.outgoing.borrow_mut();
            let Some(road) = roads.get_mut(index as usize).filter(|road| !road.dead) else { return };
            let (id, peer, closed) = (road.id, road.peer, road.duplex.flags().is_closed());
            let popped = road.pop();
            let is_over = road.dead || popped.is_none() && closed;
            if is_over {
                road.dead = true;
                road.outstanding = 0;
                road.duplex.flags().mark_drained();
            }
            if popped.is_some() {
                road.outstanding = road.outstanding.saturating_sub(1);
            }
            drop(roads);
            if is_over {
                self.fail_calls(seat, index);
                return;
            }
            let Some(d) = popped else { return };
            if Message::from_u8(d.kind) == Some(Message::Reply) {
                self.take_reply(seat, index, &d, Hold::new(State::InFlight, id), peer);
            }
        }
    }

    fn take_reply(&self, seat: &Seat, road: u32, d: &Descriptor, from: Hold, peer: u16) {
        let expected = seat.calls.borrow().get(d.tag).is_some_and(|call| call.to == Target::Outside(road));
        // What the node says of a callee on another node is not that callee's answer.
        let by_node = peer == NODE_PEER && d.flags.has(Flags::ERROR.with(Flags::REFUSED));
        let taken = self.take_in(seat, d, from, if by_node { BY_RUNTIME } else { peer });
        if !expected {
            // An answer to a call that was never made, or given up: whatever it carries goes back.
            if let Ok(parcel) = taken {
                self.drop_parcel(seat, &parcel);
            }
            return;
        }
        match taken {
            Ok(parcel) => self.complete(seat, d.tag, &parcel),
            Err(error) => self.complete_with_error(seat, d.tag, 502, error.text().as_bytes()),
        }
    }

    fn fail_calls(&self, seat: &Seat, road: u32) {
        let tags = seat.calls.borrow().tags();
        for tag in tags {
            let theirs = seat.calls.borrow().get(tag).is_some_and(|call| call.to == Target::Outside(road));
            if theirs {
                self.complete_with_error(seat, tag, 503, b"the called function's replica is gone");
            }
        }
    }

    /// The least loaded road to a function outside that has credit. `Err` if there is none at all.
    pub(crate) fn choose_road(&self, seat: &Seat, name: &str) -> Result<Option<u32>, ()> {
        let roads = seat.outgoing.borrow();
        let alive = (0u32..).zip(roads.iter()).filter(|(_, road)| road.takes_calls() && &*road.name == name);
        let mut any = false;
        let mut best: Option<(u32, u32)> = None;
        for (index, road) in alive {
            any = true;
            let load = road.load();
            if road.outstanding < road.credits && best.is_none_or(|(least, _)| load < least) {
                best = Some((load, index));
            }
        }
        if any { Ok(best.map(|(_, index)| index)) } else { Err(()) }
    }

    /// A road to another cell for a call that is made with others at once, of a function of this cell too: if such calls keep
    /// their caller longer than a wake-up costs, and a cell of the same functions sleeps.
    pub(crate) fn road_elsewhere(&self, seat: &Seat, callee: &Callee) -> Option<u32> {
        let known = &callee.parallel;
        let calls = known.calls.get();
        known.calls.set(calls.wrapping_add(1));
        // Now and then one stays, and is measured.
        if known.mean_ns.get() < WORTH_A_WAKE_NS || calls.is_multiple_of(MEASURED_EVERY) {
            return None;
        }
        if !known.asked.replace(true) {
            let callee = callee.seat.map_or(u32::MAX, u32::from);
            self.tell(FromCell::Roads { seat: u32::from(seat.id), callee }, &[]);
        }
        let roads = seat.outgoing.borrow();
        let is_open =
            |road: &Road| road.takes_calls() && *road.name == *callee.name && road.outstanding < road.credits;
        (0u32..)
            .zip(roads.iter())
            .find(|(_, road)| is_open(road) && road.bell.is_asleep())
            .map(|(index, _)| index)
    }

    /// Sends a call of `seat` over a road.
    pub(crate) fn call_outside(
        &self,
        seat: &Seat,
        road: u32,
        d: &Descriptor,
        lend: Rights,
    ) -> Result<Option<Lent>, HandError> {
        let id = seat.outgoing.borrow().get(road as usize).map_or(0, |road| road.id);
        let (out, lent) = self.send_out(seat, d, Hold::new(State::InFlight, id), Some(lend))?;
        let pushed = seat.outgoing.borrow_mut().get_mut(road as usize).is_some_and(|road| {
            road.outstanding += 1;
            road.push(&out).is_ok()
        });
        if pushed { Ok(lent) } else { Err(HandError::Full) }
    }

    /// Sends an answer of `seat` outside.
    pub(crate) fn answer_outside(
        &self,
        seat: &Seat,
        origin: Origin,
        d: &Descriptor,
    ) -> Result<(), HandError> {
        if let Some(to) = hold_for(seat, origin) {
            let (out, _) = self.send_out(seat, d, to, None)?;
            self.push_answer(seat, origin, &out);
        }
        Ok(())
    }

    fn push_answer(&self, seat: &Seat, origin: Origin, d: &Descriptor) {
        match origin {
            Origin::Node { tag } => self.push_link(seat, &Descriptor { tag, ..*d }),
            Origin::Road { road, tag } => push_over(&seat.incoming, road, &Descriptor { tag, ..*d }),
            Origin::Seat { .. } => {}
        }
    }

    /// The text of a failure as an answer to someone outside.
    pub(crate) fn answer_text(&self, seat: &Seat, origin: Origin, status: u16, invocation: u64, text: &[u8]) {
        let Some(to) = hold_for(seat, origin) else { return };
        let body = self.fill(seat, 0, (text.as_ptr() as u64, text.len() as u64), None, to);
        let body = body.unwrap_or(Extent::EMPTY);
        let d = Descriptor {
            flags: Flags::ERROR.with(Flags::REFUSED),
            code: status,
            invocation,
            body,
            ..Descriptor::new(Message::Reply)
        };
        self.push_answer(seat, origin, &d);
    }
}

/// In whose hands what answers someone outside is found; `None` for seats of the cell.
fn hold_for(seat: &Seat, origin: Origin) -> Option<Hold> {
    match origin {
        Origin::Node { .. } => Some(Hold::new(State::ToNode, seat.holder())),
        Origin::Road { road, .. } => {
            let id = seat.incoming.borrow().get(road as usize).map_or(0, |road| road.id);
            Some(Hold::new(State::InFlight, id))
        }
        Origin::Seat { .. } => None,
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
