//! The link for runtimes that are not Rust's: what [`serve`](fn@crate::serve) does with values and futures, by handles and events.
//!
//! Whoever embeds another language keeps its own loop and its own idea of who owns what. It asks for the next event, gets a
//! [`Parcel`] that says where payloads lie, and names payloads by the handles in it: the messages are those of the gates
//! ([`baton_abi::gate`]), so that one program can be linked against either. What it holds is kept here and checked here; the
//! capability table behind it is the one that every function of the app has.
//!
//! ```text
//!  turn ─▶ next event: request │ answer of a call │ cancellation │ shutdown      sleep, when there is none
//!            │ Parcel: tag, handles, addresses
//!            ▼
//!  reply(tag, …)   call(tag, …) ─▶ a tag, whose answer is an event later, or by `wait`   alloc, free, freeze, narrow, revoke
//! ```
//! One thread uses it, the one that started it. `C` gets at it by `sdk/lib`, Python by what is built on that.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use baton_abi::gate::Parcel;
use baton_abi::{Descriptor, Kind as Message64};

use crate::executor::{Origin, Ticket};
use crate::hop::Hop;
use crate::link::Link;

mod calls;
mod messages;
mod payloads;
mod refusal;
mod requests;

pub use crate::link::Alarm;
use calls::OutCall;
use payloads::Payloads;
pub use refusal::Refusal;

/// A request that was taken and not answered yet.
struct Asked {
    ticket: Ticket,
    hop: Option<Box<Hop>>,
    cpu_before: u64,
    /// Nobody is there to answer any more.
    is_orphan: bool,
    /// Whoever embeds this was told that nobody waits.
    is_cancelled: bool,
}

/// A message to be sent.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its words, as towards a gate. The address that comes with [`baton_abi::Flags::BYTES`] is not looked at.
    pub parcel: &'a Parcel,
    /// Encoded headers (`baton_abi::head`), in place of a head that the parcel names.
    pub head: &'a [u8],
    /// Bytes to be copied, in place of a payload that the parcel names.
    pub bytes: Option<&'a [u8]>,
}

/// A function in a process of its own, as seen by another language's runtime.
pub struct Outside {
    link: &'static Link,
    requests: RefCell<HashMap<u32, Asked>>,
    last_request: Cell<u32>,
    calls: RefCell<HashMap<u32, OutCall>>,
    last_call: Cell<u32>,
    /// Calls that can go on; woken from this thread by the link, from others by nobody.
    ready: Arc<Mutex<Vec<u32>>>,
    /// Calls that are over and were not told yet.
    over: RefCell<VecDeque<u32>>,
    /// Requests that nobody waits for, and that it was not told of yet.
    cancelled: RefCell<VecDeque<u32>>,
    payloads: RefCell<Payloads>,
}

impl Outside {
    /// Takes what the node sends first, and says that this function can take requests.
    ///
    /// # Errors
    /// Why there is nothing to serve, for people.
    pub fn start() -> Result<Outside, String> {
        Ok(Outside::over(Link::start(crate::serve::declared_calls())?))
    }

    pub(crate) fn over(link: &'static Link) -> Outside {
        Outside {
            link,
            requests: RefCell::default(),
            last_request: Cell::new(0),
            calls: RefCell::default(),
            last_call: Cell::new(0),
            ready: Arc::default(),
            over: RefCell::default(),
            cancelled: RefCell::default(),
            payloads: RefCell::default(),
        }
    }

    /// Requests that may be in hand at a time.
    #[must_use]
    pub fn concurrency(&self) -> u32 {
        self.link.concurrency()
    }

    /// Requests in hand.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.requests.borrow().len()
    }

    /// What wakes this function: for whoever has to end its sleep from another thread.
    #[must_use]
    pub fn alarm(&self) -> Alarm {
        self.link.alarm()
    }

    /// Looks at everything that peers sent, once. Requests are not begun by this.
    pub fn turn(&self) {
        for tag in self.link.outside_turn(self.live()) {
            self.cancel_request(Origin::Link, tag);
        }
        self.advance_calls();
    }

    /// The next event, if there is one: the answer of a call, a cancellation, a request, the end.
    pub fn next(&self) -> Option<Parcel> {
        let over = self.over.borrow_mut().pop_front();
        if let Some(parcel) = over.and_then(|tag| self.take_answer(tag)) {
            return Some(parcel);
        }
        let cancelled = self.cancelled.borrow_mut().pop_front();
        if let Some(tag) = cancelled {
            let words = Descriptor { tag, ..Descriptor::new(Message64::Cancel) }.to_words();
            return Some(Parcel { words, ..Parcel::EMPTY });
        }
        if let Some(parcel) = self.next_request() {
            return Some(parcel);
        }
        let is_over = self.link.is_over() && self.in_hand() == 0;
        is_over.then(|| Parcel { words: Descriptor::new(Message64::Shutdown).to_words(), ..Parcel::EMPTY })
    }

    /// Sends what is to be sent, and sleeps until a peer rings, at most so long. `takes_requests`: whether a new request is a
    /// reason to wake.
    pub fn sleep(&self, timeout_ns: Option<u64>, takes_requests: bool) {
        self.link.flush_bells();
        self.link.publish_stashed();
        let bell = self.link.bell();
        bell.announce_sleep();
        if self.is_quiet(takes_requests) {
            self.link.outside_sleep(timeout_ns);
        }
        bell.announce_awake();
    }

    /// Sends what is to be sent, and says that this function sleeps, for whoever sleeps by other means until [`Outside::alarm`]
    /// rings. `false` if there is something to do. [`Outside::awake`] ends it.
    #[must_use]
    pub fn announce_sleep(&self) -> bool {
        self.link.flush_bells();
        self.link.publish_stashed();
        self.link.bell().announce_sleep();
        let is_quiet = self.is_quiet(true);
        if !is_quiet {
            self.awake();
        }
        is_quiet
    }

    /// Awake again, for whatever reason.
    pub fn awake(&self) {
        self.link.outside_awake();
    }

    /// Nanoseconds until a call's own time is over, if there is one with a time of its own.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.link.outside_deadline()
    }

    /// Rings for what was sent.
    pub fn flush(&self) {
        self.link.flush_bells();
    }

    fn is_quiet(&self, takes_requests: bool) -> bool {
        let has_told = takes_requests
            && !(self.over.borrow().is_empty() && self.cancelled.borrow().is_empty())
            || self.ready.lock().is_ok_and(|ready| !ready.is_empty());
        !has_told && self.link.outside_is_quiet(takes_requests && self.has_room())
    }

    fn live(&self) -> u32 {
        u32::try_from(self.in_hand()).unwrap_or(u32::MAX)
    }

    fn has_room(&self) -> bool {
        self.live() < self.concurrency()
    }
}

impl core::fmt::Debug for Outside {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Outside").field("in_hand", &self.in_hand()).finish_non_exhaustive()
    }
}
