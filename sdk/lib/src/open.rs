//! The one link of this process, and whose it is.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::sync::OnceLock;

use baton::outside::{Alarm, Outside};

/// The calling thread is not the one that opened the link, or nobody did.
pub(crate) const EPERM: i64 = -1;
/// There is no link to open.
const ENOTCONN: i64 = -107;
/// It was opened, by another thread.
const EBUSY: i64 = -16;

thread_local! {
    static HERE: Cell<Option<&'static Outside>> = const { Cell::new(None) };
    static WHY: RefCell<CString> = RefCell::default();
}

/// What wakes this function. There once the link is.
static ALARM: OnceLock<Alarm> = OnceLock::new();

/// Opens the link. Done before by this thread, that is no error.
pub(crate) fn open() -> i64 {
    if HERE.get().is_some() {
        return 0;
    }
    if ALARM.get().is_some() {
        say("another thread opened the link");
        return EBUSY;
    }
    match Outside::start() {
        Ok(outside) => {
            let outside: &'static Outside = Box::leak(Box::new(outside));
            let _ = ALARM.set(outside.alarm());
            HERE.set(Some(outside));
            0
        }
        Err(why) => {
            say(&why);
            ENOTCONN
        }
    }
}

fn say(why: &str) {
    let text = CString::new(why.replace('\0', " ")).unwrap_or_default();
    WHY.replace(text);
}

/// Why the last [`open`] of this thread failed. Good until the next one.
pub(crate) fn why() -> *const core::ffi::c_char {
    WHY.with_borrow(|text| text.as_ptr())
}

/// The link, if this is its thread.
pub(crate) fn here() -> Option<&'static Outside> {
    HERE.get()
}

/// What wakes this function, on every thread.
pub(crate) fn alarm() -> Option<Alarm> {
    ALARM.get().copied()
}
