//! Bells: a peer is woken only when it sleeps.
//!
//! The sleeper says so, looks once more, and only then sleeps; the waker publishes, and only then looks whether
//! anyone sleeps. Both do that by an exchange on the same word, so one of the two comes first: if the waker's does, its
//! publication is seen by the sleeper's last look; if the sleeper's does, the waker finds it asleep. A wake-up cannot be
//! lost. A bell that a hostile peer rings or mutes costs its own app wake-ups or delays, nothing else.

use crate::placed::{Placed, SharedLayout};
use crate::sync::{AtomicU32, Ordering};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// The shared part of a bell.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct BellLayout {
    state: AtomicU32,
    // Messages that the node has sent over the control socket so far.
    control_sent: AtomicU32,
    // Requests in the replica's hands, as it says: for callers to choose the least loaded.
    in_flight: AtomicU32,
    // Counts turns of the replica's loop: one that stands still while awake is stuck in a handler.
    turn: AtomicU32,
    // Counts the node's ticks while calls are out: the replica looks at its deadlines at each.
    ticks: AtomicU32,
    // How often the node asked a cell to bring the capability table up to date, and the last time that it did.
    asked: AtomicU32,
    shown: AtomicU32,
    // Where the kernel hands over: empty buffers in the replica's stash, which the table does not tell from those that carry something.
    stashed: AtomicU32,
    _rest: [AtomicU32; 8],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<BellLayout>() == 64);

// UNSAFETY: promises that a bell may lie in memory that other processes write.
#[expect(unsafe_code, reason = "marks a structure as made of atomics only")]
// SAFETY: `repr(C)`, atomics only, every bit pattern is valid.
unsafe impl SharedLayout for BellLayout {}

/// One view of a bell.
#[derive(Debug)]
pub struct Bell {
    layout: Placed<BellLayout>,
}

impl Bell {
    /// A view of the one bell in `layout`; `None` if there is not exactly one.
    #[must_use]
    pub fn new(layout: Placed<BellLayout>) -> Option<Bell> {
        (layout.len() == 1).then_some(Bell { layout })
    }

    #[inline]
    fn layout(&self) -> &BellLayout {
        // `new` checked that there is one.
        &self.layout[0]
    }

    /// Waker: whether the peer sleeps and must be woken by this caller. Call after publishing.
    #[inline]
    #[must_use]
    pub fn must_wake(&self) -> bool {
        self.layout().state.swap(AWAKE, Ordering::AcqRel) == ASLEEP
    }

    /// Sleeper: announces sleep. Look at every ring once more after this.
    #[inline]
    pub fn announce_sleep(&self) {
        self.layout().state.swap(ASLEEP, Ordering::AcqRel);
    }

    /// Sleeper: awake again, for whatever reason.
    #[inline]
    pub fn announce_awake(&self) {
        self.layout().state.store(AWAKE, Ordering::Relaxed);
    }

    /// Whether the owner sleeps, as it says.
    #[inline]
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        !self.was_woken()
    }

    /// Whether the sleeper was woken since it announced sleep.
    #[must_use]
    pub fn was_woken(&self) -> bool {
        self.layout().state.load(Ordering::Acquire) == AWAKE
    }

    /// Node: one more control message is on its way.
    pub fn count_control(&self) {
        self.layout().control_sent.fetch_add(1, Ordering::Release);
    }

    /// Replica: control messages sent so far.
    #[inline]
    #[must_use]
    pub fn control_sent(&self) -> u32 {
        self.layout().control_sent.load(Ordering::Acquire)
    }

    /// Replica: says how many requests it has in its hands.
    #[inline]
    pub fn publish_in_flight(&self, requests: u32) {
        self.layout().in_flight.store(requests, Ordering::Relaxed);
    }

    /// Replica: says that its loop came round.
    #[inline]
    pub fn publish_turn(&self, turn: u32) {
        self.layout().turn.store(turn, Ordering::Relaxed);
    }

    /// Node: how often the replica's loop came round, as it says.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.layout().turn.load(Ordering::Relaxed)
    }

    /// Replica: says how many empty buffers it keeps.
    pub fn publish_stashed(&self, buffers: u32) {
        self.layout().stashed.store(buffers, Ordering::Relaxed);
    }

    /// Empty buffers that the replica keeps, as it says.
    #[must_use]
    pub fn stashed(&self) -> u32 {
        self.layout().stashed.load(Ordering::Relaxed)
    }

    /// Node: time has passed while calls are out.
    pub fn tick(&self) {
        self.layout().ticks.fetch_add(1, Ordering::Release);
    }

    /// Replica: the node's ticks so far.
    #[inline]
    #[must_use]
    pub fn ticks(&self) -> u32 {
        self.layout().ticks.load(Ordering::Acquire)
    }

    /// Node: someone wants to see who holds what. Gives the number that [`Bell::shown`] will have.
    pub fn ask_to_show(&self) -> u32 {
        self.layout().asked.fetch_add(1, Ordering::AcqRel).wrapping_add(1)
    }

    /// Cell: the number of the last such wish, if it is a new one.
    #[inline]
    #[must_use]
    pub fn asked_to_show(&self) -> Option<u32> {
        let asked = self.layout().asked.load(Ordering::Acquire);
        (asked != self.layout().shown.load(Ordering::Relaxed)).then_some(asked)
    }

    /// Cell: the table says who holds what, as of the wish with that number.
    pub fn note_shown(&self, asked: u32) {
        self.layout().shown.store(asked, Ordering::Release);
    }

    /// Node: the number of the last wish that was met.
    #[must_use]
    pub fn shown(&self) -> u32 {
        self.layout().shown.load(Ordering::Acquire)
    }

    /// Requests in the replica's hands, as it says.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.layout().in_flight.load(Ordering::Relaxed)
    }
}

#[cfg(not(loom))]
impl Bell {
    /// Waker: rings if the peer sleeps. Call after publishing.
    #[inline]
    pub fn ring(&self) {
        if self.must_wake() {
            self.wake();
        }
    }

    /// Wakes the sleeper whatever it said: one system call.
    pub fn wake(&self) {
        // A wake-up that fails has nobody to wake: the peer is gone, and its death is handled elsewhere.
        let _ = rustix::thread::futex::wake(&self.layout().state, rustix::thread::futex::Flags::empty(), 1);
    }

    /// Sleeper: sleeps until rung, at most `timeout_ns` nanoseconds. Call after [`Bell::announce_sleep`] and a last look.
    pub fn sleep(&self, timeout_ns: Option<u64>) {
        use rustix::thread::futex;
        let timeout = timeout_ns.map(|ns| futex::Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
        });
        // Woken, timed out, interrupted or not asleep any more: the caller looks at its rings in every case.
        let _ = futex::wait(&self.layout().state, futex::Flags::empty(), ASLEEP, timeout.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(loom))]
    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let bell = Bell::new(Placed::heap(1)).unwrap();
        assert!(!bell.must_wake());
        bell.announce_sleep();
        assert!(bell.must_wake());
        assert!(!bell.must_wake());
        assert!(bell.was_woken());
    }

    #[cfg(not(loom))]
    #[test]
    fn sleep_returns_at_once_when_rung_before_and_after_its_time_otherwise() {
        let bell = Bell::new(Placed::heap(1)).unwrap();
        bell.announce_sleep();
        bell.ring();
        bell.sleep(None);
        bell.announce_sleep();
        bell.sleep(Some(1_000_000));
        assert!(!bell.was_woken());
    }

    /// Over all interleavings: either the sleeper sees the descriptor on its last look, or the waker wakes it.
    #[cfg(loom)]
    #[test]
    fn loom_a_wake_up_is_never_lost() {
        loom::model(|| {
            let layout = Placed::heap(1);
            let (sleeper, waker) = (Bell::new(layout.share()).unwrap(), Bell::new(layout).unwrap());
            let (mut producer, mut consumer) = crate::ring::heap_ring(2).unwrap();
            let other = loom::thread::spawn(move || {
                let descriptor = baton_abi::Descriptor::new(baton_abi::Kind::Request);
                producer.push(&descriptor).unwrap();
                waker.must_wake()
            });
            sleeper.announce_sleep();
            let seen = !consumer.is_empty().unwrap();
            let woken = other.join().unwrap();
            assert!(seen || woken, "asleep with a descriptor in the ring");
        });
    }
}
