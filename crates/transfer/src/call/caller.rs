//! The end of a call lane that calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{CallError, Violation};
use crate::limits::{HEAD_MAX, INLINE_MAX, Limits, PING_EVERY, SILENCE_MAX};
use crate::payload::{Answer, Arrived, Incoming};
use crate::vault::Now;
use crate::wire::call::{ToCaller, put_call};
use crate::wire::{Kind, frame, named};

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerEvent {
    /// It is answered.
    Answered(u64, Answer),
    /// Its time is over.
    Late(u64),
    /// An answer that nobody waits for any more: what it refers to is to be released.
    Unwanted(Answer),
}

struct Out {
    deadline: Now,
    sent: bool,
    abandoned: bool,
}

/// See the picture above.
pub struct Caller {
    calls: BTreeMap<u64, Out>,
    deadlines: BTreeSet<(Now, u64)>,
    next: u64,
    queue: VecDeque<(u64, Incoming)>,
    queued_bytes: usize,
    cancels: VecDeque<u64>,
    events: VecDeque<CallerEvent>,
    allowed: usize,
    calls_max: usize,
    outbox_max: usize,
    inline_max: usize,
    heard: Now,
    ping_at: Now,
    ping_due: Option<u64>,
    ping_out: Option<(u64, Now)>,
    pings: u64,
    round_trip: Option<Duration>,
    away: bool,
}

fn weight(call: &Incoming) -> usize {
    let inline = if let Arrived::Inline(bytes) = &call.body { bytes.len() } else { 0 };
    call.head.len() + inline
}

impl Caller {
    /// A lane that was just opened. The callee says how many calls it takes before it takes any.
    #[must_use]
    pub fn new(now: Now, limits: &Limits) -> Caller {
        Caller {
            calls: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next: 1,
            queue: VecDeque::new(),
            queued_bytes: 0,
            cancels: VecDeque::new(),
            events: VecDeque::new(),
            allowed: 0,
            calls_max: limits.calls,
            outbox_max: limits.outbox_bytes,
            inline_max: limits.inline.min(INLINE_MAX),
            heard: now,
            ping_at: now,
            ping_due: None,
            ping_out: None,
            pings: 0,
            round_trip: None,
            away: false,
        }
    }

    /// Queues a call; the number that its event will name.
    ///
    /// # Errors
    /// [`CallError::TooLarge`], [`CallError::NotConnected`] before the callee has spoken, [`CallError::Draining`],
    /// [`CallError::Crowded`].
    pub fn begin(&mut self, now: Now, call: Incoming) -> Result<u64, CallError> {
        let inline = if let Arrived::Inline(bytes) = &call.body { bytes.len() } else { 0 };
        let fits = call.head.len() <= HEAD_MAX && inline <= self.inline_max;
        if !fits || !named(&call.app) || !named(&call.function) {
            return Err(CallError::TooLarge);
        }
        if !self.ready() {
            return Err(CallError::NotConnected);
        }
        if self.away {
            return Err(CallError::Draining);
        }
        let bytes = self.queued_bytes + weight(&call);
        let full = self.calls.len() >= self.allowed.min(self.calls_max);
        if full || (bytes > self.outbox_max && !self.queue.is_empty()) {
            return Err(CallError::Crowded);
        }
        let (id, deadline) = (self.next, now.saturating_add(call.timeout));
        self.next += 1;
        self.calls.insert(id, Out { deadline, sent: false, abandoned: false });
        self.deadlines.insert((deadline, id));
        self.queued_bytes = bytes;
        self.queue.push_back((id, call));
        Ok(id)
    }

    /// The caller wants no answer any more.
    pub fn cancel(&mut self, id: u64) {
        let Some(out) = self.calls.get_mut(&id).filter(|out| !out.abandoned) else { return };
        self.deadlines.remove(&(out.deadline, id));
        if out.sent {
            out.abandoned = true;
            self.cancels.push_back(id);
            return;
        }
        self.calls.remove(&id);
        if let Some(at) = self.queue.iter().position(|(queued, _)| *queued == id)
            && let Some((_, call)) = self.queue.remove(at)
        {
            self.queued_bytes -= weight(&call);
        }
    }

    /// Takes in a frame.
    ///
    /// # Errors
    /// [`Violation`]: the lane is to be closed.
    pub fn receive(&mut self, now: Now, id: u64, frame: ToCaller) -> Result<(), Violation> {
        self.heard = now;
        match frame {
            ToCaller::Reply(answer) => {
                let known = self.calls.get(&id).is_some_and(|out| out.sent);
                let out = if known { self.calls.remove(&id) } else { None }.ok_or(Violation::NotOut)?;
                self.deadlines.remove(&(out.deadline, id));
                self.cancels.retain(|cancel| *cancel != id);
                self.events.push_back(if out.abandoned {
                    CallerEvent::Unwanted(answer)
                } else {
                    CallerEvent::Answered(id, answer)
                });
            }
            ToCaller::Pong => {
                let (_, at) =
                    self.ping_out.take().filter(|(ping, _)| *ping == id).ok_or(Violation::NotAsked)?;
                self.round_trip = Some(now.saturating_sub(at));
            }
            ToCaller::GoAway => self.away = true,
            ToCaller::Credit(calls) => self.allowed = usize::try_from(calls).unwrap_or(usize::MAX),
        }
        Ok(())
    }

    /// Something of a frame came.
    pub fn heard(&mut self, now: Now) {
        self.heard = now;
    }

    /// Time passes. `false`: the peer is silent, the lane is to be closed.
    #[must_use]
    pub fn tick(&mut self, now: Now) -> bool {
        while let Some(&(_, id)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.cancel(id);
            self.events.push_back(CallerEvent::Late(id));
        }
        if now >= self.ping_at {
            self.ping_at = now + PING_EVERY;
            if self.ping_out.is_none() && self.ping_due.is_none() {
                self.pings += 1;
                self.ping_due = Some(self.pings);
            }
        }
        now.saturating_sub(self.heard) < SILENCE_MAX
    }

    /// When [`Caller::tick`] is wanted next.
    #[must_use]
    pub fn wake_at(&self) -> Now {
        let deadline = self.deadlines.first().map_or(Now::MAX, |(at, _)| *at);
        self.ping_at.min(deadline).min(self.heard + SILENCE_MAX)
    }

    /// Appends frames to `out` until it has `enough` bytes.
    pub fn transmit(&mut self, now: Now, out: &mut Vec<u8>, enough: usize) {
        if let Some(ping) = self.ping_due.take() {
            frame(out, Kind::Ping, ping, |_| {});
            self.ping_out = Some((ping, now));
        }
        while out.len() < enough {
            if let Some(id) = self.cancels.pop_front() {
                frame(out, Kind::Cancel, id, |_| {});
                continue;
            }
            let Some((id, mut call)) = self.queue.pop_front() else { return };
            self.queued_bytes -= weight(&call);
            if let Some(state) = self.calls.get_mut(&id) {
                state.sent = true;
                // What the call waited for is not left to the callee.
                call.timeout = state.deadline.saturating_sub(now);
            }
            put_call(out, id, &call);
        }
    }

    /// What happened, one by one.
    pub fn event(&mut self) -> Option<CallerEvent> {
        self.events.pop_front()
    }

    /// The lane broke: all calls that someone waits for.
    #[must_use]
    pub fn lost(&mut self) -> Vec<(u64, CallError)> {
        self.queue.clear();
        self.deadlines.clear();
        let calls = std::mem::take(&mut self.calls).into_iter().filter(|(_, out)| !out.abandoned);
        calls.map(|(id, out)| (id, CallError::Lost { sent: out.sent })).collect()
    }

    /// Calls that are not answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is something to transmit.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.ping_due.is_some() || !self.cancels.is_empty() || !self.queue.is_empty()
    }

    /// How long the last look at the peer took.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Whether the peer has said how many calls it takes.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.allowed > 0
    }

    /// Whether the peer takes no more calls.
    #[must_use]
    pub fn away(&self) -> bool {
        self.away
    }
}
