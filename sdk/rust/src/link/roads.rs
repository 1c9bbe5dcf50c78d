//! Which road a call takes, and where it waits when there is none.

use std::task::Waker;

use super::Link;
use super::edge::{self, Parked};
use crate::error::Error;

/// Most tasks that wait for a callee's first replica, or its next one.
const ROADLESS_MAX: usize = 4096;

/// A call that is to be sent, and cannot be yet.
#[derive(Default)]
pub(crate) struct Wait {
    /// Where it waits for credit.
    pub(super) parked: Option<Parked>,
    /// When it first had to wait for a road.
    since_ns: Option<u64>,
}

impl Wait {
    /// When it first had to wait.
    pub(super) fn since_ns(&mut self) -> u64 {
        *self.since_ns.get_or_insert_with(crate::clock::now_ns)
    }
}

impl Link {
    /// The least loaded road to `function` with credit; `None` when the caller must wait (its waker is kept).
    pub(super) fn choose_road(
        &self,
        function: &str,
        waker: &Waker,
        wait: &mut Option<Box<Wait>>,
    ) -> Result<Option<usize>, Error> {
        let mut roads = self.outgoing.borrow_mut();
        let mut known = false;
        let mut best: Option<(usize, u32)> = None;
        let mut shortest: Option<(usize, usize)> = None;
        for (index, road) in roads.iter().enumerate().filter(|(_, road)| &*road.name == function) {
            known = true;
            if !road.takes_calls() {
                continue;
            }
            if road.outstanding < edge::credits(road) {
                let load = edge::load(road);
                if best.is_none_or(|(_, least)| load < least) {
                    best = Some((index, load));
                }
            }
            if shortest.is_none_or(|(_, least)| road.own.waiting.len() < least) {
                shortest = Some((index, road.own.waiting.len()));
            }
        }
        let name = || function.to_owned();
        match (best, shortest) {
            (Some((index, _)), _) => Ok(Some(index)),
            (None, Some((index, waiting))) => {
                let waits = |parked: &Parked| {
                    let road = roads.get(parked.road);
                    road.is_some_and(|road| {
                        road.own.waiting.iter().any(|(number, _)| *number == parked.number)
                    })
                };
                if wait.as_ref().and_then(|wait| wait.parked.as_ref()).is_some_and(waits) {
                    return Ok(None);
                }
                let Some(road) = roads.get_mut(index) else { return Ok(None) };
                if waiting as u64 >= u64::from(road.own.queue_max) {
                    return Err(Error::Overloaded { function: name() });
                }
                road.own.last_parked += 1;
                wait.get_or_insert_default().parked =
                    Some(Parked { road: index, number: road.own.last_parked });
                road.own.waiting.push_back((road.own.last_parked, waker.clone()));
                Ok(None)
            }
            (None, None) if known || self.declared.iter().any(|name| name == function) => {
                // Its replicas are being started: the next one's edge wakes this call, or its time ends it.
                let mut roadless = self.roadless.borrow_mut();
                if roadless.len() >= ROADLESS_MAX {
                    return Err(Error::Unavailable { function: name() });
                }
                if !roadless.iter().any(|waiting| waiting.will_wake(waker)) {
                    roadless.push(waker.clone());
                }
                Ok(None)
            }
            (None, None) => Err(Error::NoEdge { function: name() }),
        }
    }

    /// Whether a function is among those that may be called.
    pub(crate) fn declares(&self, function: &str) -> bool {
        self.declared.iter().any(|name| name == function)
    }

    /// A call that waited for credit does not any more; the credit that may have woken it goes to the next one.
    pub(crate) fn stop_waiting(&self, wait: &mut Option<Box<Wait>>) {
        let Some(parked) = wait.take().and_then(|wait| wait.parked) else { return };
        let mut roads = self.outgoing.borrow_mut();
        let Some(road) = roads.get_mut(parked.road) else { return };
        let before = road.own.waiting.len();
        road.own.waiting.retain(|(number, _)| *number != parked.number);
        if before == road.own.waiting.len()
            && let Some((_, next)) = road.own.waiting.pop_front()
        {
            next.wake();
        }
    }
}
