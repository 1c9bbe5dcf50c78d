//! The node's calls to one replica: tags, and who waits for which answer.
//!
//! A tag is an index and a generation. An answer to a call that was never made, or was answered before, finds no slot:
//! that is how a reply to someone else's call fails.

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use baton_pool::capability::Handle;
use baton_pool::ledger::Place;

use crate::error::InvokeError;

/// An answer as it came over the link, checked against the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawReply {
    pub(crate) status: u16,
    pub(crate) is_error: bool,
    /// The failure is not the function's answer, but says how it ended.
    pub(crate) has_ended: bool,
    pub(crate) body: Option<(Handle, Place)>,
    /// Place of the head; the handle is there if it has a buffer of its own.
    pub(crate) head: Option<(Option<Handle>, Place)>,
    pub(crate) inline: Option<([u8; 8], usize)>,
}

#[derive(Debug)]
enum State {
    Free,
    Waiting(Option<Waker>),
    Done(Result<RawReply, InvokeError>),
    /// Nobody waits. The answer is given up when it comes.
    Abandoned,
}

#[derive(Debug)]
struct Slot {
    generation: u16,
    state: State,
    deadline: Instant,
    /// The answer is still to come, whatever the waiter was told.
    owed: bool,
}

/// Calls to one replica.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u16>,
    owed: u32,
}

/// What an answer met.
#[derive(Debug)]
pub(crate) enum Met {
    /// Someone who waits for it.
    Waiter(Option<Waker>),
    /// A call that nobody waits for any more.
    Nobody,
}

fn split(tag: u32) -> (usize, u16) {
    let [i0, i1, g0, g1] = tag.to_le_bytes();
    (usize::from(u16::from_le_bytes([i0, i1])), u16::from_le_bytes([g0, g1]))
}

impl Slots {
    /// Room for one more call; its tag. `None` when 65,535 are out.
    pub(crate) fn add(&mut self, deadline: Instant) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u16::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot { generation: 0, state: State::Free, deadline, owed: false });
                index
            }
        };
        let slot = self.slots.get_mut(usize::from(index))?;
        slot.state = State::Waiting(None);
        slot.deadline = deadline;
        slot.owed = true;
        self.owed += 1;
        Some(u32::from(slot.generation) << 16 | u32::from(index))
    }

    fn get(&mut self, tag: u32) -> Option<&mut Slot> {
        let (index, generation) = split(tag);
        let slot = self.slots.get_mut(index)?;
        (slot.generation == generation && !matches!(slot.state, State::Free)).then_some(slot)
    }

    /// Whoever waits for `tag` waits until `deadline` from now on.
    pub(crate) fn extend(&mut self, tag: u32, deadline: Instant) {
        if let Some(slot) = self.get(tag) {
            slot.deadline = deadline;
        }
    }

    /// Whether an answer to `tag` is owed.
    pub(crate) fn is_owed(&mut self, tag: u32) -> bool {
        self.get(tag).is_some_and(|slot| slot.owed)
    }

    /// Answers that are still to come.
    pub(crate) fn owed(&self) -> u32 {
        self.owed
    }

    fn retire_if_over(&mut self, tag: u32) {
        let Some(slot) = self.get(tag) else { return };
        if slot.owed || !matches!(slot.state, State::Abandoned) {
            return;
        }
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        if let Ok(index) = u16::try_from(split(tag).0) {
            self.free.push(index);
        }
    }

    /// The answer to `tag` came. `None` if none is owed.
    pub(crate) fn answer(&mut self, tag: u32, result: Result<RawReply, InvokeError>) -> Option<Met> {
        let slot = self.get(tag).filter(|slot| slot.owed)?;
        slot.owed = false;
        let met = match core::mem::replace(&mut slot.state, State::Abandoned) {
            State::Waiting(waker) => {
                slot.state = State::Done(result);
                Met::Waiter(waker)
            }
            // The waiter was told something else before, and has not looked yet.
            State::Done(told) => {
                slot.state = State::Done(told);
                Met::Nobody
            }
            State::Abandoned | State::Free => Met::Nobody,
        };
        self.owed -= 1;
        self.retire_if_over(tag);
        Some(met)
    }

    /// Tells the waiter that it waited in vain, though the answer may still come.
    pub(crate) fn fail(&mut self, tag: u32, error: InvokeError) -> Option<Waker> {
        let slot = self.get(tag)?;
        if !matches!(slot.state, State::Waiting(_)) {
            return None;
        }
        match core::mem::replace(&mut slot.state, State::Done(Err(error))) {
            State::Waiting(waker) => waker,
            _ => None,
        }
    }

    /// The waiter looks.
    pub(crate) fn poll(&mut self, tag: u32, waker: &Waker) -> Poll<Result<RawReply, InvokeError>> {
        let Some(slot) = self.get(tag) else {
            return Poll::Ready(Err(InvokeError::BadReply { what: "a call that does not exist" }));
        };
        match core::mem::replace(&mut slot.state, State::Abandoned) {
            State::Done(result) => {
                self.retire_if_over(tag);
                Poll::Ready(result)
            }
            State::Waiting(kept) => {
                let kept = kept.filter(|kept| kept.will_wake(waker)).unwrap_or_else(|| waker.clone());
                slot.state = State::Waiting(Some(kept));
                Poll::Pending
            }
            State::Abandoned | State::Free => Poll::Pending,
        }
    }

    /// The waiter left. Gives what it did not take; `Err(true)` if the replica should be told.
    pub(crate) fn abandon(&mut self, tag: u32) -> Result<Option<RawReply>, bool> {
        let Some(slot) = self.get(tag) else { return Err(false) };
        let left = core::mem::replace(&mut slot.state, State::Abandoned);
        let owed = slot.owed;
        self.retire_if_over(tag);
        match left {
            State::Done(result) => Ok(result.ok()),
            _ => Err(owed),
        }
    }

    /// Tags of the calls whose time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u32> {
        let late = |slot: &Slot| matches!(slot.state, State::Waiting(_)) && slot.deadline <= now;
        (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| late(slot))
            .map(|(index, slot)| u32::from(slot.generation) << 16 | index)
            .collect()
    }

    /// Whether an answer is still owed `grace` after its time was over.
    pub(crate) fn owes_since(&self, now: Instant, grace: Duration) -> bool {
        self.owed > 0 && self.slots.iter().any(|slot| slot.owed && slot.deadline + grace <= now)
    }

    /// The replica is dead: every call that it owes fails.
    pub(crate) fn fail_all(&mut self, error: &InvokeError) -> Vec<Waker> {
        let owed: Vec<u32> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.owed)
            .map(|(index, slot)| u32::from(slot.generation) << 16 | index)
            .collect();
        let mut wakers = Vec::new();
        for tag in owed {
            if let Some(Met::Waiter(waker)) = self.answer(tag, Err(error.clone())) {
                wakers.extend(waker);
            }
        }
        wakers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> Result<RawReply, InvokeError> {
        Ok(RawReply { status: 200, is_error: false, has_ended: false, body: None, head: None, inline: None })
    }

    #[test]
    fn a_call_is_answered_once() {
        let mut slots = Slots::default();
        let tag = slots.add(Instant::now()).unwrap();
        assert!(matches!(slots.answer(tag, reply()), Some(Met::Waiter(None))));
        assert!(slots.answer(tag, reply()).is_none(), "twice");
        assert!(slots.answer(tag ^ 1, reply()).is_none(), "another's");
        assert!(matches!(slots.poll(tag, Waker::noop()), Poll::Ready(Ok(_))));
        let next = slots.add(Instant::now()).unwrap();
        assert_ne!(next, tag, "a recycled slot has another tag");
        assert!(slots.answer(tag, reply()).is_none(), "stale");
    }

    #[test]
    fn an_abandoned_call_keeps_its_slot_until_the_answer_came() {
        let mut slots = Slots::default();
        let tag = slots.add(Instant::now()).unwrap();
        assert!(slots.abandon(tag).unwrap_err());
        let other = slots.add(Instant::now()).unwrap();
        assert_ne!(tag & 0xffff, other & 0xffff);
        assert!(matches!(slots.answer(tag, reply()), Some(Met::Nobody)));
        assert_eq!(slots.owed(), 1);
    }

    #[test]
    fn a_late_answer_after_a_time_out_meets_nobody() {
        let mut slots = Slots::default();
        let tag = slots.add(Instant::now()).unwrap();
        assert_eq!(slots.overdue(Instant::now()), [tag]);
        slots.fail(tag, InvokeError::QueueFull);
        assert!(slots.overdue(Instant::now()).is_empty());
        assert!(matches!(slots.answer(tag, reply()), Some(Met::Nobody)));
        assert!(matches!(slots.poll(tag, Waker::noop()), Poll::Ready(Err(InvokeError::QueueFull))));
        assert_eq!(slots.add(Instant::now()).unwrap() & 0xffff, tag & 0xffff, "the slot is free again");
    }

    #[test]
    fn death_fails_what_is_owed() {
        let mut slots = Slots::default();
        let first = slots.add(Instant::now()).unwrap();
        let second = slots.add(Instant::now()).unwrap();
        let _ = slots.abandon(second);
        slots.fail_all(&InvokeError::ReplicaDied { function: "f".into(), how: "SIGKILL".into() });
        assert_eq!(slots.owed(), 0);
        assert!(matches!(
            slots.poll(first, Waker::noop()),
            Poll::Ready(Err(InvokeError::ReplicaDied { .. }))
        ));
    }
}
