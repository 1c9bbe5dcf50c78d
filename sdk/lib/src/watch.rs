//! A descriptor that becomes readable when there is something to do, for loops that wait for descriptors.
//!
//! A bell is a word to sleep on, which no loop of descriptors can. A thread does the sleeping, only while it is armed: a loop that
//! waits for nothing else sleeps on the bell itself, and this thread is never started.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use baton::outside::Alarm;
use baton_pool::bell::Bell;
use rustix::event::{EventfdFlags, eventfd};

use crate::open::EPERM;

struct Watch {
    fd: OwnedFd,
    armed: Mutex<bool>,
    arming: Condvar,
}

static WATCH: OnceLock<Watch> = OnceLock::new();
/// Bytes of the thread's stack.
const STACK_BYTES: usize = 64 << 10;
const ENOMEM: i64 = -12;

/// The descriptor. The first time, the thread is started, unless the loop sleeps on a descriptor as it is.
pub(crate) fn fd(alarm: Alarm) -> i64 {
    let bell = match (alarm.socket(), alarm.bell()) {
        (Some(socket), _) => return i64::from(socket.as_raw_fd()),
        (None, Some(bell)) => bell,
        (None, None) => return EPERM,
    };
    if let Some(watch) = WATCH.get() {
        return i64::from(watch.fd.as_raw_fd());
    }
    let Ok(fd) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else { return ENOMEM };
    let watch = WATCH.get_or_init(|| Watch { fd, armed: Mutex::new(false), arming: Condvar::new() });
    let thread = std::thread::Builder::new().name("baton-bell".into()).stack_size(STACK_BYTES);
    match thread.spawn(move || watch.run(bell)) {
        Ok(_running) => i64::from(watch.fd.as_raw_fd()),
        Err(_) => ENOMEM,
    }
}

/// Sleep was announced: the descriptor is to tell its end.
pub(crate) fn arm() {
    if let Some(watch) = WATCH.get() {
        *watch.armed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        watch.arming.notify_one();
    }
}

/// Empties the descriptor.
pub(crate) fn clear() {
    if let Some(watch) = WATCH.get() {
        // Empty already: as good.
        let _ = rustix::io::read(&watch.fd, &mut [0u8; 8]);
    }
}

impl Watch {
    fn run(&self, bell: &Bell) {
        loop {
            let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
            while !*armed {
                armed = self.arming.wait(armed).unwrap_or_else(PoisonError::into_inner);
            }
            *armed = false;
            drop(armed);
            while bell.is_asleep() {
                bell.sleep(None);
            }
            // One too many only has the loop look once more. A counter that is full is readable.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}
