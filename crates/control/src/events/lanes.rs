//! What waits, by function, and what may be tried now: pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use super::book::Known;
use super::retry::Tries;
use super::{EventFault, QueueReport};
use crate::limits::EVENTS_BYTES_MAX;

type Key = (String, String);

#[derive(Debug, Default)]
struct Lane {
    /// Those that may be tried, by when.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    /// All of it that are not done.
    waiting: BTreeSet<u64>,
    running: u32,
    done: u64,
    retried: u64,
    dead: u64,
}

/// The events of a node that are not done.
#[derive(Debug)]
pub(super) struct Lanes {
    next: u64,
    known: HashMap<u64, Known>,
    lanes: BTreeMap<Key, Lane>,
    bytes: u64,
    running: usize,
    /// Whose turn comes first, so that none waits for the others.
    turn: usize,
}

fn key(known: &Known) -> Key {
    (known.app.clone(), known.function.clone())
}

impl Lanes {
    pub(super) fn new(next: u64, waiting: BTreeMap<u64, Known>) -> Self {
        let mut lanes =
            Self { next, known: HashMap::new(), lanes: BTreeMap::new(), bytes: 0, running: 0, turn: 0 };
        for (id, known) in waiting {
            lanes.insert(id, known);
            lanes.ready(id);
        }
        lanes
    }

    fn insert(&mut self, id: u64, known: Known) {
        self.bytes = self.bytes.saturating_add(known.bytes);
        self.lanes.entry(key(&known)).or_default().waiting.insert(id);
        self.known.insert(id, known);
    }

    /// A number for an event, if there is room for it. It is not tried before it is [`ready`](Self::ready).
    pub(super) fn admit(&mut self, known: &Known, queue: u32) -> Result<u64, EventFault> {
        let waiting = self.lanes.get(&key(known)).map_or(0, |lane| lane.waiting.len());
        if waiting >= queue as usize {
            return Err(EventFault::QueueFull { queue });
        }
        self.admit_anyway(known)
    }

    /// The same past the function's own bound: for what takes the place of another event.
    pub(super) fn admit_anyway(&mut self, known: &Known) -> Result<u64, EventFault> {
        if self.bytes.saturating_add(known.bytes) > EVENTS_BYTES_MAX {
            return Err(EventFault::NoRoom);
        }
        let id = self.next;
        self.next += 1;
        self.insert(id, known.clone());
        Ok(id)
    }

    /// It is on the disk: it may be tried.
    pub(super) fn ready(&mut self, id: u64) {
        let Some(known) = self.known.get(&id) else { return };
        let lane = self.lanes.entry(key(known)).or_default();
        lane.due.push(Reverse((known.tries.due_ms, id)));
    }

    /// It is done, or was never written.
    pub(super) fn forget(&mut self, id: u64) {
        let Some(known) = self.known.remove(&id) else { return };
        self.bytes = self.bytes.saturating_sub(known.bytes);
        if let Some(lane) = self.lanes.get_mut(&key(&known)) {
            lane.waiting.remove(&id);
        }
    }

    /// The next event to be tried at `now_ms`, which counts as running from here on; or when there may be one.
    pub(super) fn take(
        &mut self,
        now_ms: u64,
        at_once_max: usize,
        concurrency: impl Fn(&str, &str) -> u32,
    ) -> Result<(u64, Known), Option<u64>> {
        let mut soonest: Option<u64> = None;
        if self.running >= at_once_max {
            return Err(None);
        }
        let count = self.lanes.len();
        let first = self.turn.checked_rem(count).unwrap_or(0);
        let mut keys: Vec<&Key> = self.lanes.keys().collect();
        keys.rotate_left(first);
        let mut found = None;
        for key in keys {
            let Some(lane) = self.lanes.get(key) else { continue };
            let Some(Reverse((due, _))) = lane.due.peek() else { continue };
            if lane.running >= concurrency(&key.0, &key.1) {
                continue;
            }
            if *due <= now_ms {
                found = Some(key.clone());
                break;
            }
            soonest = Some(soonest.map_or(*due, |soonest| soonest.min(*due)));
        }
        let Some(key) = found else { return Err(soonest) };
        self.turn = self.turn.wrapping_add(1);
        let lane = self.lanes.entry(key).or_default();
        // It was looked at just now.
        let Some(Reverse((_, id))) = lane.due.pop() else { return Err(soonest) };
        lane.running += 1;
        self.running += 1;
        match self.known.get(&id) {
            Some(known) => Ok((id, known.clone())),
            None => {
                lane.running -= 1;
                self.running -= 1;
                Err(Some(now_ms))
            }
        }
    }

    fn stopped(&mut self, known: &Known) -> &mut Lane {
        self.running = self.running.saturating_sub(1);
        let lane = self.lanes.entry(key(known)).or_default();
        lane.running = lane.running.saturating_sub(1);
        lane
    }

    /// It was tried and is done.
    pub(super) fn done(&mut self, id: u64, known: &Known) {
        self.stopped(known).done += 1;
        self.forget(id);
    }

    /// It was tried and has come to nothing.
    pub(super) fn dead(&mut self, id: u64, known: &Known) {
        self.stopped(known).dead += 1;
        self.forget(id);
    }

    /// It was tried and will be again.
    pub(super) fn again(&mut self, id: u64, known: &Known, tries: Tries) {
        let lane = self.stopped(known);
        lane.retried += 1;
        lane.due.push(Reverse((tries.due_ms, id)));
        if let Some(known) = self.known.get_mut(&id) {
            known.tries = tries;
        }
    }

    pub(super) fn report(&self, now_ms: u64) -> Vec<QueueReport> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let report = |((app, function), lane): (&Key, &Lane)| {
            let oldest = lane.waiting.first().and_then(|id| self.known.get(id));
            QueueReport {
                app: app.clone(),
                function: function.clone(),
                waiting: count(lane.waiting.len()),
                running: lane.running,
                done: lane.done,
                retried: lane.retried,
                dead: lane.dead,
                oldest_s: oldest.map_or(0, |known| now_ms.saturating_sub(known.accepted_ms) / 1000),
            }
        };
        self.lanes.iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(function: &str, due_ms: u64) -> Known {
        Known {
            app: "a".to_owned(),
            function: function.to_owned(),
            accepted_ms: 0,
            bytes: 10,
            tries: Tries { due_ms, ..Tries::default() },
        }
    }

    fn lanes(events: &[(&str, u64)]) -> Lanes {
        let events = events.iter().enumerate();
        Lanes::new(100, events.map(|(id, (function, due))| (id as u64, known(function, *due))).collect())
    }

    #[test]
    fn the_earliest_comes_first_and_none_before_its_time() {
        let mut lanes = lanes(&[("f", 30), ("f", 10), ("f", 20)]);
        assert_eq!(lanes.take(5, 9, |_, _| 9).unwrap_err(), Some(10));
        let taken: Vec<u64> = (0..2).map(|_| lanes.take(25, 9, |_, _| 9).unwrap().0).collect();
        assert_eq!(taken, [1, 2]);
        assert_eq!(lanes.take(25, 9, |_, _| 9).unwrap_err(), Some(30));
    }

    #[test]
    fn one_function_is_not_kept_waiting_by_another() {
        let mut lanes = lanes(&[("f", 0), ("f", 0), ("f", 0), ("g", 5)]);
        let (first, taken) = lanes.take(9, 9, |_, _| 1).unwrap();
        assert_eq!((first, taken.function.as_str()), (0, "f"));
        // One at a time each.
        let (second, other) = lanes.take(9, 9, |_, _| 1).unwrap();
        assert_eq!((second, other.function.as_str()), (3, "g"));
        assert_eq!(lanes.take(9, 9, |_, _| 1).unwrap_err(), None);
        lanes.done(first, &taken);
        assert_eq!(lanes.take(9, 9, |_, _| 1).unwrap().0, 1);
        // As many as the node takes together.
        assert_eq!(lanes.take(9, 2, |_, _| 9).unwrap_err(), None);
    }

    #[test]
    fn queues_are_bounded_and_room_comes_back() {
        let mut lanes = Lanes::new(1, BTreeMap::new());
        let ids: Vec<u64> = (0..3).map(|_| lanes.admit(&known("f", 0), 3).unwrap()).collect();
        assert!(matches!(lanes.admit(&known("f", 0), 3), Err(EventFault::QueueFull { queue: 3 })));
        assert!(lanes.admit(&known("g", 0), 3).is_ok());
        let large = Known { bytes: EVENTS_BYTES_MAX, ..known("h", 0) };
        assert!(matches!(lanes.admit(&large, 3), Err(EventFault::NoRoom)));
        // Not on the disk yet.
        assert_eq!(lanes.take(9, 9, |_, _| 9).unwrap_err(), None);
        lanes.ready(ids[0]);
        let (id, taken) = lanes.take(9, 9, |_, _| 9).unwrap();
        lanes.again(id, &taken, Tries { attempts: 1, due_ms: 50, error: String::new() });
        let (id, taken) = lanes.take(50, 9, |_, _| 9).unwrap();
        assert_eq!(taken.tries.attempts, 1);
        lanes.dead(id, &taken);
        assert!(lanes.admit(&known("f", 0), 3).is_ok());
        let report = lanes.report(5_000);
        let row = &report[0];
        assert_eq!((row.waiting, row.running, row.retried, row.dead, row.oldest_s), (3, 0, 1, 1, 5));
    }
}
