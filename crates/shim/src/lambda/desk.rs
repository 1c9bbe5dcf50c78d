//! Where events wait for the program, and answers for those who asked.
//!
//! | | who | under |
//! |---|---|---|
//! | `queue` | tasks put in; connections take out; the keeper empties it when the program cannot start | the desk's lock |
//! | `running` | connections put in and take out; the keeper fails what is overdue or lost with the program | the desk's lock |
//! | a slot | whoever took the event out of `queue` or `running` delivers; its task takes | the slot's own lock, never held with the desk's |

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::outcome::{Delivery, Failure};
use super::output::Output;

/// How often the keeper looks whether an event is overdue.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Parts that may wait for their caller; the program waits then.
const PARTS_MAX: usize = 16;
/// How long a program may wait for its caller to take a part.
const PART_PATIENCE: Duration = Duration::from_secs(60);

/// An event, and whom to answer.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: Arc<str>,
    /// The head with which the program gets it, up to the deadline, which is the last line.
    pub(crate) head: Arc<str>,
    pub(crate) body: Arc<[u8]>,
    pub(crate) timeout: Duration,
    /// For the log.
    pub(crate) invocation: u64,
    pub(crate) slot: Arc<Slot>,
}

/// An event that the program has.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) job: Job,
    pub(super) until: Instant,
}

/// What the threads share.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) queue: VecDeque<Job>,
    /// One at most, unless a program asks for the next before it answers.
    pub(super) running: Vec<Running>,
    /// Counts starts of the program: what an earlier one asked for is not given to its connections.
    pub(super) start: u64,
    /// Whether the program has asked for an event since it was started.
    pub(super) is_up: bool,
    /// What it said when it could not come up.
    pub(super) init_error: Option<Vec<u8>>,
    /// The invocation that lines of the log belong to.
    pub(super) logged: u64,
    /// What the program writes.
    pub(super) output: Option<Arc<Output>>,
    pub(super) is_ending: bool,
    /// Connections that wait for an event.
    pub(super) idle: usize,
    /// Whether the keeper waits for an event to start the program for.
    pub(super) is_asleep: bool,
}

/// The desk.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    /// Told to connections that wait for an event.
    stirred: Condvar,
    /// Told to the keeper, which looks by itself often enough for all but short times.
    watched: Condvar,
}

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event in.
    pub(crate) fn put(&self, job: Job) {
        let (is_awaited, is_asleep) = {
            let mut state = self.lock();
            state.queue.push_back(job);
            (state.idle > 0, state.is_asleep)
        };
        // To notify is a system call, whether or not somebody waits.
        if is_awaited {
            self.stirred.notify_one();
        }
        if is_asleep {
            self.watched.notify_all();
        }
    }

    /// The next event for a program of this start, once there is one; `None` when that program has ended.
    pub(super) fn take(&self, start: u64) -> Option<(Job, Instant)> {
        let mut state = self.lock();
        if state.start == start {
            state.is_up = true;
        }
        loop {
            if state.start != start || state.is_ending {
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                if job.slot.is_left() {
                    continue;
                }
                let until = Instant::now() + job.timeout;
                state.logged = job.invocation;
                state.running.push(Running { job: job.clone(), until });
                let is_short = job.timeout <= LOOK_EVERY;
                drop(state);
                if is_short {
                    self.watched.notify_all();
                }
                return Some((job, until));
            }
            state.idle += 1;
            state = self.stirred.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// An event that the program has.
    pub(super) fn running(&self, id: &str) -> Option<Job> {
        let state = self.lock();
        state.running.iter().find(|running| &*running.job.id == id).map(|running| running.job.clone())
    }

    /// Takes an event that the program is done with.
    pub(super) fn finish(&self, id: &str) -> Option<Job> {
        let mut state = self.lock();
        let at = state.running.iter().position(|running| &*running.job.id == id)?;
        Some(state.running.swap_remove(at).job)
    }

    /// Notes why the program cannot come up.
    pub(super) fn init_error(&self, body: Vec<u8>) {
        self.lock().init_error = Some(body);
    }

    /// Waits until something has changed, or until a time.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match until {
            None => self.watched.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                self.watched.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Tells everybody to look again.
    pub(super) fn stir(&self) {
        self.stirred.notify_all();
        self.watched.notify_all();
    }

    pub(super) fn end(&self) {
        self.lock().is_ending = true;
        self.stir();
    }
}

/// Where one caller's answer comes.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    inside: Mutex<Inside>,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    deliveries: VecDeque<Delivery>,
    waker: Option<Waker>,
    is_left: bool,
    is_over: bool,
    /// Whether the program waits for a part to be taken.
    is_awaited: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers; `false` if nobody is there to take it, or what was last has come already.
    pub(crate) fn deliver(&self, delivery: Delivery) -> bool {
        let mut inside = self.lock();
        let mut until = None;
        while inside.deliveries.len() >= PARTS_MAX && !inside.is_left && !delivery.is_last() {
            let until = *until.get_or_insert_with(|| Instant::now() + PART_PATIENCE);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inside.is_awaited = true;
            inside = self.taken.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner).0;
            inside.is_awaited = false;
        }
        if inside.is_left || inside.is_over {
            return false;
        }
        inside.is_over = delivery.is_last();
        inside.deliveries.push_back(delivery);
        let waker = inside.waker.take();
        drop(inside);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.deliver(Delivery::Failed(failure));
    }

    /// The next delivery.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Delivery> {
        let mut inside = self.lock();
        if let Some(delivery) = inside.deliveries.pop_front() {
            let is_awaited = inside.is_awaited;
            drop(inside);
            if is_awaited {
                self.taken.notify_all();
            }
            return Poll::Ready(delivery);
        }
        inside.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Nobody waits any more.
    pub(crate) fn leave(&self) {
        self.lock().is_left = true;
        self.taken.notify_all();
    }

    pub(super) fn is_left(&self) -> bool {
        self.lock().is_left
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};
    use std::thread;

    use super::*;

    struct Thread(thread::Thread);

    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn taken(slot: &Slot) -> Delivery {
        let waker = Waker::from(Arc::new(Thread(thread::current())));
        let context = Context::from_waker(&waker);
        loop {
            match slot.poll(&context) {
                Poll::Ready(delivery) => return delivery,
                Poll::Pending => thread::park_timeout(Duration::from_secs(10)),
            }
        }
    }

    fn job(id: &str) -> Job {
        let (head, body, slot) = (Arc::from(""), Arc::from(&b"{}"[..]), Arc::default());
        Job { id: Arc::from(id), head, body, timeout: Duration::from_secs(3), invocation: 1, slot }
    }

    #[test]
    fn events_are_given_in_order_to_the_program_that_runs_now() {
        let desk = Desk::default();
        desk.put(job("a"));
        desk.put(job("b"));
        assert_eq!(&*desk.take(0).unwrap().0.id, "a");
        desk.lock().start = 1;
        assert!(desk.take(0).is_none());
        assert_eq!(&*desk.take(1).unwrap().0.id, "b");
        assert!(desk.finish("b").is_some() && desk.finish("b").is_none() && desk.finish("x").is_none());
    }

    #[test]
    fn an_event_whose_caller_left_is_not_given() {
        let desk = Desk::default();
        let gone = job("gone");
        gone.slot.leave();
        desk.put(gone);
        desk.put(job("here"));
        assert_eq!(&*desk.take(0).unwrap().0.id, "here");
    }

    #[test]
    fn one_answer_is_delivered_and_no_second() {
        let slot = Slot::default();
        assert!(slot.deliver(Delivery::Whole(b"1".to_vec(), None)));
        assert!(!slot.deliver(Delivery::Whole(b"2".to_vec(), None)));
        slot.fail(Failure::new("x", "y"));
        assert_eq!(taken(&slot), Delivery::Whole(b"1".to_vec(), None));
    }

    #[test]
    fn a_program_waits_for_its_caller_to_take_parts() {
        let slot = Arc::new(Slot::default());
        let writer = Arc::clone(&slot);
        let count = PARTS_MAX * 4;
        let writing = thread::spawn(move || {
            assert!(writer.deliver(Delivery::Begin(None)));
            for index in 0..count {
                assert!(writer.deliver(Delivery::Part(vec![u8::try_from(index).unwrap()])));
            }
            assert!(writer.deliver(Delivery::End));
        });
        assert_eq!(taken(&slot), Delivery::Begin(None));
        for index in 0..count {
            assert_eq!(taken(&slot), Delivery::Part(vec![u8::try_from(index).unwrap()]));
        }
        assert_eq!(taken(&slot), Delivery::End);
        writing.join().unwrap();
    }
}
