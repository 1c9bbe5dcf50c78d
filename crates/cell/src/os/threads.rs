//! Green threads: who there is, who waits for what, and who runs next.
//!
//! ```text
//!            call, retry                 wake, time, event
//!   Running ─────────────▶ Waiting ──────────────────────────▶ Ready ──▶ Running
//!      │ └── park ───────▶ Parked ───── unpark (goes first) ───▶ ▲
//!      └──── yield, preempt ─────────────────────────────────────┘
//! ```

use super::saved::{In, Out};
use super::{Resume, THREADS_MAX, ThreadId};

/// Largest thread number, as the kernel's default.
const TID_MAX: u32 = 4_194_303;
/// The number of the first thread, and of the process.
pub(super) const PID: u32 = 1;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For time to pass; what the call gives then.
    Time(i64),
    /// For a wake at an address with one of these bits.
    Futex { at: u64, bits: u32 },
    /// For anything that may make its call succeed: it is then tried again.
    Again { number: u64, args: [u64; 6] },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Running,
    Ready { turn: u64 },
    Waiting { wait: Wait, until: Option<u64>, since: u64 },
    Parked,
}

/// A call that is to be made again, on behalf of a thread that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) number: u64,
    pub(super) args: [u64; 6],
    pub(super) until: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    state: State,
    /// Its number as guests know it.
    pub(super) tid: u32,
    pub(super) fs_base: u64,
    /// Where to write a zero when it ends; 0 for nowhere.
    pub(super) clear_tid: u64,
    /// Blocked signals, and those that came meanwhile.
    pub(super) mask: u64,
    pub(super) pending: u64,
    /// What `sigaltstack` was told.
    pub(super) altstack: [u64; 3],
    result: Option<i64>,
    retry: Option<Retry>,
}

impl Thread {
    const NEW: Thread = Thread {
        state: State::Free,
        tid: PID,
        fs_base: 0,
        clear_tid: 0,
        mask: 0,
        pending: 0,
        altstack: [0, libc::SS_DISABLE as u64, 0],
        result: None,
        retry: None,
    };
}

/// All threads of a guest.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    list: Vec<Thread>,
    current: Option<ThreadId>,
    /// Counts up: who became ready, or began to wait, first.
    turn: u64,
    next_tid: u32,
}

/// Turns begin here; below are those of threads that go first.
const TURNS: u64 = 1 << 62;

impl Threads {
    /// One thread, running.
    pub(super) fn new() -> Threads {
        let first = Thread { state: State::Running, ..Thread::NEW };
        Threads { list: vec![first], current: Some(ThreadId::FIRST), turn: 0, next_tid: PID + 1 }
    }

    pub(super) fn restore(&mut self, from: &Threads) {
        self.list.clone_from(&from.list);
        (self.current, self.turn, self.next_tid) = (from.current, from.turn, from.next_tid);
    }

    pub(super) fn current(&self) -> Option<ThreadId> {
        self.current
    }

    /// The thread whose call is served. Between calls with nobody running, a thread that does not count.
    pub(super) fn running(&mut self) -> &mut Thread {
        let index = self.current.unwrap_or(ThreadId::FIRST).index();
        &mut self.list[index]
    }

    /// Whether there is one thread.
    #[inline]
    pub(super) fn is_single(&self) -> bool {
        self.list.len() <= 1 || self.live() <= 1
    }

    fn live(&self) -> usize {
        self.list.iter().filter(|thread| thread.state != State::Free).count()
    }

    pub(super) fn by_tid(&mut self, tid: u32) -> Option<&mut Thread> {
        self.list.iter_mut().find(|thread| thread.state != State::Free && thread.tid == tid)
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Makes a thread that is ready with result 0, after the manner of the current one. `None` if there are too many.
    pub(super) fn spawn(&mut self, fs_base: Option<u64>) -> Option<(ThreadId, &mut Thread)> {
        let free = self.list.iter().position(|thread| thread.state == State::Free).unwrap_or(self.list.len());
        if free >= THREADS_MAX {
            return None;
        }
        let tid = self.free_tid();
        let turn = TURNS + self.next_turn();
        let parent = *self.running();
        let thread = Thread {
            state: State::Ready { turn },
            tid,
            fs_base: fs_base.unwrap_or(parent.fs_base),
            mask: parent.mask,
            result: Some(0),
            ..Thread::NEW
        };
        if free == self.list.len() {
            self.list.push(thread);
        } else {
            self.list[free] = thread;
        }
        // Cannot fail: below THREADS_MAX.
        let id = ThreadId(u8::try_from(free).ok()?);
        Some((id, &mut self.list[free]))
    }

    /// A number that no thread has. Ends: there are more numbers than threads.
    fn free_tid(&mut self) -> u32 {
        loop {
            let tid = self.next_tid;
            self.next_tid = if tid >= TID_MAX { PID + 1 } else { tid + 1 };
            if self.by_tid(tid).is_none() {
                return tid;
            }
        }
    }

    /// Takes the current thread off; it may come back in `state`.
    fn leave(&mut self, state: State) {
        self.running().state = state;
        self.current = None;
    }

    pub(super) fn end(&mut self) {
        self.leave(State::Free);
    }

    pub(super) fn wait(&mut self, wait: Wait, until: Option<u64>) {
        let since = self.next_turn();
        self.leave(State::Waiting { wait, until, since });
    }

    pub(super) fn park(&mut self) {
        self.leave(State::Parked);
    }

    /// The current thread goes to the back of the queue, or, if nobody has run since it was chosen, to the front.
    pub(super) fn suspend(&mut self, result: Option<i64>, to_back: bool) {
        let turn = if to_back { TURNS + self.next_turn() } else { TURNS };
        self.running().result = result;
        self.leave(State::Ready { turn });
    }

    /// A parked thread is ready, before all that are not.
    pub(super) fn unpark(&mut self, thread: ThreadId) -> bool {
        let turn = self.next_turn();
        match self.list.get_mut(thread.index()) {
            Some(thread) if thread.state == State::Parked => {
                thread.state = State::Ready { turn };
                true
            }
            _ => false,
        }
    }

    /// Whether somebody is in a gate.
    pub(super) fn any_parked(&self) -> bool {
        self.list.iter().any(|thread| thread.state == State::Parked)
    }

    /// When the first of those who wait for time is to be woken.
    pub(super) fn first_deadline(&self) -> Option<u64> {
        let until = |thread: &Thread| match thread.state {
            State::Waiting { until, .. } => until,
            _ => None,
        };
        self.list.iter().filter_map(until).min()
    }

    pub(super) fn any_ready(&self) -> bool {
        self.list.iter().any(|thread| matches!(thread.state, State::Ready { .. }))
    }

    /// Makes those ready whose time is up, in the order in which they began to wait.
    pub(super) fn expire(&mut self, now: u64) {
        let late = |thread: &Thread| match thread.state {
            State::Waiting { wait, until: Some(until), .. } if until <= now => match wait {
                Wait::Time(result) => Some(result),
                Wait::Futex { .. } | Wait::Again { .. } => Some(-i64::from(libc::ETIMEDOUT)),
            },
            _ => None,
        };
        self.wake(usize::MAX, late);
    }

    /// Makes those try again whose calls may succeed now.
    pub(super) fn stir(&mut self) {
        let again = |thread: &Thread| match thread.state {
            State::Waiting { wait: Wait::Again { .. }, .. } => Some(0),
            _ => None,
        };
        self.wake(usize::MAX, again);
    }

    /// Wakes up to `most` of those that wait at `at` with one of `bits`, and says how many.
    pub(super) fn wake_futex(&mut self, at: u64, bits: u32, most: usize) -> usize {
        let here = |thread: &Thread| match thread.state {
            State::Waiting { wait: Wait::Futex { at: other, bits: some }, .. } => {
                (other == at && some & bits != 0).then_some(0)
            }
            _ => None,
        };
        self.wake(most, here)
    }

    /// Lets up to `most` of those that wait at `at` wait at `to` instead, and says how many.
    pub(super) fn requeue_futex(&mut self, at: u64, to: u64, most: usize) -> usize {
        let mut waiting: Vec<&mut Thread> = self
            .list
            .iter_mut()
            .filter(|thread| matches!(thread.state, State::Waiting { wait: Wait::Futex { at: other, .. }, .. } if other == at))
            .collect();
        waiting.sort_by_key(|thread| thread.since());
        let mut moved = 0;
        for thread in waiting.into_iter().take(most) {
            if let State::Waiting { wait: Wait::Futex { at, .. }, .. } = &mut thread.state {
                *at = to;
                moved += 1;
            }
        }
        moved
    }

    /// Makes up to `most` of those ready for whom `result` says with what, longest waiting first; says how many.
    fn wake(&mut self, most: usize, result: impl Fn(&Thread) -> Option<i64>) -> usize {
        let mut woken = 0;
        while woken < most.min(THREADS_MAX) {
            let turn = TURNS + self.next_turn();
            let chosen =
                self.list.iter_mut().filter_map(|thread| result(thread).map(|result| (thread, result)));
            let Some((thread, result)) = chosen.min_by_key(|(thread, _)| thread.since()) else { break };
            thread.ready(turn, result);
            woken += 1;
        }
        woken
    }

    /// Takes the next one that is ready, and its call if that is to be made again.
    pub(super) fn pick(&mut self) -> Option<(ThreadId, Option<Retry>)> {
        let ready = self.list.iter().enumerate().filter_map(|(index, thread)| match thread.state {
            State::Ready { turn } => Some((turn, index)),
            _ => None,
        });
        let (_, index) = ready.min()?;
        let id = ThreadId(u8::try_from(index).ok()?);
        let thread = &mut self.list[index];
        thread.state = State::Running;
        self.current = Some(id);
        Some((id, thread.retry.take()))
    }

    /// The current thread is about to run.
    pub(super) fn resume(&mut self, thread: ThreadId, result: Option<i64>) -> Resume {
        let running = self.running();
        Resume { thread, result: result.or(running.result.take()), fs_base: running.fs_base }
    }
}

/// How threads are saved: deadlines as what is left of them, since the clock of another boot begins anew.
impl Threads {
    pub(super) fn save(&self, out: &mut Out, now: u64) {
        let left = |until: Option<u64>| until.map(|until| until.saturating_sub(now));
        out.count(self.list.len());
        for thread in &self.list {
            match thread.state {
                State::Free => out.word(0),
                State::Running => out.word(1),
                State::Ready { turn } => out.words([2, turn]),
                State::Parked => out.word(3),
                State::Waiting { wait, until, since } => {
                    out.words([4, since]);
                    out.maybe(left(until));
                    match wait {
                        Wait::Time(result) => out.words([0, result.cast_unsigned()]),
                        Wait::Futex { at, bits } => out.words([1, at, u64::from(bits)]),
                        Wait::Again { number, args } => {
                            out.words([2, number]);
                            out.words(args);
                        }
                    }
                }
            }
            out.words([u64::from(thread.tid), thread.fs_base, thread.clear_tid, thread.mask, thread.pending]);
            out.words(thread.altstack);
            out.maybe(thread.result.map(i64::cast_unsigned));
            out.flag(thread.retry.is_some());
            if let Some(Retry { number, args, until }) = thread.retry {
                out.word(number);
                out.words(args);
                out.maybe(left(until));
            }
        }
        out.maybe(self.current.map(|current| u64::from(current.0)));
        out.words([self.turn, u64::from(self.next_tid)]);
    }

    pub(super) fn load(saved: &mut In<'_>, now: u64) -> Option<Threads> {
        let count = saved.count(THREADS_MAX)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(Thread::load(saved, now)?);
        }
        let current = saved.maybe()?.map(|index| u8::try_from(index).map(ThreadId)).transpose().ok()?;
        let [turn, next_tid] = saved.words()?;
        let next_tid = u32::try_from(next_tid).ok().filter(|tid| (PID + 1..=TID_MAX).contains(tid))?;
        let running = |thread: &Thread| thread.state == State::Running;
        let is_right = match current {
            Some(current) => list.get(current.index()).is_some_and(running),
            None => !list.is_empty(),
        };
        let runners = list.iter().filter(|thread| running(thread)).count();
        let is_right = is_right && runners == usize::from(current.is_some()) && turn < TURNS;
        is_right.then_some(Threads { list, current, turn, next_tid })
    }
}

impl Thread {
    fn load(saved: &mut In<'_>, now: u64) -> Option<Thread> {
        let then = |left: Option<u64>| left.map(|left| left.saturating_add(now));
        let state = match saved.word()? {
            0 => State::Free,
            1 => State::Running,
            2 => State::Ready { turn: saved.word()? },
            3 => State::Parked,
            4 => {
                let (since, until) = (saved.word()?, then(saved.maybe()?));
                let wait = match saved.word()? {
                    0 => Wait::Time(saved.word()?.cast_signed()),
                    1 => Wait::Futex { at: saved.word()?, bits: saved.small()? },
                    2 => Wait::Again { number: saved.word()?, args: saved.words()? },
                    _ => return None,
                };
                State::Waiting { wait, until, since }
            }
            _ => return None,
        };
        let (tid, [fs_base, clear_tid, mask, pending]) = (saved.small()?, saved.words()?);
        let altstack = saved.words()?;
        let result = saved.maybe()?.map(u64::cast_signed);
        let retry = match saved.flag()? {
            false => None,
            true => Some(Retry { number: saved.word()?, args: saved.words()?, until: then(saved.maybe()?) }),
        };
        Some(Thread { state, tid, fs_base, clear_tid, mask, pending, altstack, result, retry })
    }

    fn since(&self) -> u64 {
        match self.state {
            State::Waiting { since, .. } => since,
            _ => 0,
        }
    }

    fn ready(&mut self, turn: u64, result: i64) {
        match self.state {
            State::Waiting { wait: Wait::Again { number, args }, until, .. } => {
                self.retry = Some(Retry { number, args, until });
            }
            _ => self.result = Some(result),
        }
        self.state = State::Ready { turn };
    }
}
