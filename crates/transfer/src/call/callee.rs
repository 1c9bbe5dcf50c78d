//! The end of a call lane that is called.

use std::collections::{BTreeMap, VecDeque};

use super::Violation;
use crate::limits::{ANSWERS_BYTES_MAX, Limits, SILENCE_MAX};
use crate::payload::{Answer, AnswerKind, Arrived, Incoming};
use crate::vault::Now;
use crate::wire::call::{ToCallee, put_answer};
use crate::wire::{Kind, frame};

/// What the service is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalleeEvent {
    /// Begin a call.
    Begin(u64, Incoming),
    /// Drop it.
    Cancel(u64),
}

/// A call that its caller counts as out.
enum In {
    Running { bytes: usize },
    Answered,
}

/// Every call is answered exactly once; one that is cancelled too.
pub struct Callee {
    calls: BTreeMap<u64, In>,
    answers: VecDeque<(u64, Answer)>,
    answers_bytes: usize,
    events: VecDeque<CalleeEvent>,
    last: u64,
    bytes: usize,
    calls_max: usize,
    bytes_max: usize,
    credit_due: bool,
    away_due: bool,
    draining: bool,
    pong_due: Option<u64>,
    heard: Now,
}

fn weight(head: &[u8], body: &Arrived) -> usize {
    let inline = if let Arrived::Inline(bytes) = body { bytes.len() } else { 0 };
    head.len() + inline
}

fn without_answer(kind: AnswerKind) -> Answer {
    Answer { status: 503, kind, ..Answer::default() }
}

impl Callee {
    /// A lane that was just opened.
    #[must_use]
    pub fn new(now: Now, limits: &Limits) -> Callee {
        Callee {
            calls: BTreeMap::new(),
            answers: VecDeque::new(),
            answers_bytes: 0,
            events: VecDeque::new(),
            last: 0,
            bytes: 0,
            calls_max: limits.calls,
            bytes_max: limits.incoming_bytes,
            credit_due: true,
            away_due: false,
            draining: false,
            pong_due: None,
            heard: now,
        }
    }

    /// Takes in a frame.
    ///
    /// # Errors
    /// [`Violation`]: the lane is to be closed.
    pub fn receive(&mut self, now: Now, id: u64, frame: ToCallee) -> Result<(), Violation> {
        self.heard = now;
        match frame {
            ToCallee::Call(call) => {
                if id <= self.last {
                    return Err(Violation::Number);
                }
                self.last = id;
                if self.calls.len() >= self.calls_max {
                    return Err(Violation::Flood);
                }
                let bytes = weight(&call.head, &call.body);
                let crowded = self.bytes + bytes > self.bytes_max && self.bytes > 0;
                self.bytes += bytes;
                self.calls.insert(id, In::Running { bytes });
                if crowded || self.draining {
                    self.answer(id, without_answer(AnswerKind::Refused));
                } else {
                    self.events.push_back(CalleeEvent::Begin(id, call));
                }
            }
            ToCallee::Cancel if id > self.last => return Err(Violation::Number),
            // What is answered already crossed it on the way.
            ToCallee::Cancel => {
                if matches!(self.calls.get(&id), Some(In::Running { .. })) {
                    self.events.push_back(CalleeEvent::Cancel(id));
                    self.answer(id, without_answer(AnswerKind::Cancelled));
                }
            }
            // Of several that were not answered yet one is enough: an honest peer has one out.
            ToCallee::Ping => self.pong_due = Some(id),
        }
        Ok(())
    }

    /// Something of a frame came.
    pub fn heard(&mut self, now: Now) {
        self.heard = now;
    }

    /// The answer of a call; whether anybody waits for it.
    pub fn answer(&mut self, id: u64, answer: Answer) -> bool {
        let Some(state @ In::Running { .. }) = self.calls.get_mut(&id) else { return false };
        if let In::Running { bytes } = core::mem::replace(state, In::Answered) {
            self.bytes -= bytes;
        }
        self.answers_bytes += weight(&answer.head, &answer.body);
        self.answers.push_back((id, answer));
        true
    }

    /// No more calls, those that run go on.
    pub fn drain(&mut self) {
        if !self.draining {
            (self.draining, self.away_due) = (true, true);
        }
    }

    /// Time passes. `false`: the peer is silent, the lane is to be closed.
    #[must_use]
    pub fn tick(&mut self, now: Now) -> bool {
        now < self.wake_at()
    }

    /// When [`Callee::tick`] is wanted next.
    #[must_use]
    pub fn wake_at(&self) -> Now {
        self.heard + SILENCE_MAX
    }

    /// Whether frames may be taken in: not while answers pile up that the peer does not read.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.answers_bytes <= ANSWERS_BYTES_MAX
    }

    /// Appends frames to `out` until it has `enough` bytes.
    pub fn transmit(&mut self, out: &mut Vec<u8>, enough: usize) {
        if core::mem::take(&mut self.credit_due) {
            let calls = u32::try_from(self.calls_max).unwrap_or(u32::MAX);
            frame(out, Kind::Credit, 0, |out| out.extend_from_slice(&calls.to_le_bytes()));
        }
        if core::mem::take(&mut self.away_due) {
            frame(out, Kind::GoAway, 0, |_| {});
        }
        if let Some(id) = self.pong_due.take() {
            frame(out, Kind::Pong, id, |_| {});
        }
        while out.len() < enough {
            let Some((id, answer)) = self.answers.pop_front() else { return };
            self.answers_bytes -= weight(&answer.head, &answer.body);
            self.calls.remove(&id);
            put_answer(out, id, &answer);
        }
    }

    /// What is to be done, one by one.
    pub fn event(&mut self) -> Option<CalleeEvent> {
        self.events.pop_front()
    }

    /// The lane broke: answers that nobody will get.
    pub fn lost(&mut self) -> impl Iterator<Item = Answer> {
        self.answers.drain(..).map(|(_, answer)| answer)
    }

    /// Whether there is something to transmit.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.credit_due || self.away_due || self.pong_due.is_some() || !self.answers.is_empty()
    }

    /// Calls that are not answered.
    #[must_use]
    pub fn running(&self) -> usize {
        self.calls.values().filter(|call| matches!(call, In::Running { .. })).count()
    }

    /// Calls whose answer is not on its way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }
}
