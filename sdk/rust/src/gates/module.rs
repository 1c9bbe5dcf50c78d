//! The loop of a function in a Wasm module: events come by exports.
//!
//! ```text
//! _start        main ─▶ serve: makes the loop, in memory that stays, and returns; so does main
//! baton_parcel  where the next event is to be written
//! baton_event   takes what was written there, works until no task can go on, returns the answer that goes with the next receive
//! baton_refused hears that the runtime did not take that answer
//! ```
//! What the memory is after `_start` is what every copy begins with, and only copies get requests.

// UNSAFETY: exports functions, and shares the memory of one parcel with the host.
#![expect(unsafe_code, reason = "the host calls and writes what is exported")]

use core::cell::UnsafeCell;
use std::cell::RefCell;
use std::future::Future;
use std::process::ExitCode;

use baton_abi::gate::Parcel;

use super::Gates;
use super::turn::Loop;
use crate::context::Context;
use crate::executor::Outcome;
use crate::request::Request;

/// The incarnation of what starts, and that of its copies.
const ORIGINAL: u64 = 0;
pub(super) const COPY: u64 = 1;

/// What the host tells.
enum News<'a> {
    /// An event.
    Event(&'a Parcel),
    /// The answer that waited was refused, with that result of the gate.
    Refused(i64),
}

/// Takes news; gives the answer that waits.
type Turn = Box<dyn FnMut(News<'_>) -> Option<*const Parcel>>;

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// Where the host writes events.
struct Mailbox(UnsafeCell<Parcel>);

// SAFETY: a module has one thread.
unsafe impl Sync for Mailbox {}

static EVENT: Mailbox = Mailbox(UnsafeCell::new(Parcel::EMPTY));

impl Gates {
    /// Makes ready for events. They come once `main` has returned.
    pub(crate) fn run<M, F>(&'static self, make: M) -> ExitCode
    where
        M: Fn(Context, Request) -> F + 'static,
        F: Future<Output = Outcome> + 'static,
    {
        let kept_at = super::kept::at();
        // SAFETY: the host looks at it once `_start` has returned.
        unsafe { (*EVENT.0.get()).kept_at = kept_at };
        let mut work = Loop::new(self, make);
        TURN.set(Some(Box::new(move |news| {
            self.next_epoch();
            match news {
                News::Event(event) => {
                    work.replies.sent(0);
                    // That it is enough needs no answer: the host drops the module.
                    let _ = work.turn(event);
                }
                News::Refused(gate) => {
                    work.replies.sent(gate);
                }
            }
            work.replies.is_waiting.then_some(&raw const work.replies.parcel)
        })));
        self.incarnation.set(ORIGINAL);
        ExitCode::SUCCESS
    }
}

/// What this was built for, where the node looks before it compiles a module.
// SAFETY: a custom section of the module, which is no memory.
#[used]
#[unsafe(link_section = "baton.abi")]
static BUILT_FOR: [u8; 4] = baton_abi::ABI_VERSION.to_le_bytes();
const _: () = assert!(matches!(baton_abi::wasm::VERSION_SECTION.as_bytes(), b"baton.abi"));

/// Where the next event is to be written.
#[unsafe(no_mangle)]
extern "C" fn baton_parcel() -> *mut Parcel {
    EVENT.0.get()
}

/// An event lies there. Gives the answer that is to go out with the next receive.
#[unsafe(no_mangle)]
extern "C" fn baton_event() -> *const Parcel {
    // SAFETY: the host writes there between two calls of this function, never during one.
    hear(News::Event(unsafe { &*EVENT.0.get() }))
}

/// The answer that was to go out with the receive was not taken.
#[unsafe(no_mangle)]
extern "C" fn baton_refused(gate: i64) {
    hear(News::Refused(gate));
}

fn hear(news: News<'_>) -> *const Parcel {
    // Without a loop, `main` never served: that is no function. Within a turn there is no other.
    let answer = TURN.with_borrow_mut(|turn| turn.as_mut().expect("main calls baton::serve")(news));
    answer.unwrap_or(core::ptr::null())
}
