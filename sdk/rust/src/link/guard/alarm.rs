//! Waking a replica's loop from another thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use baton_abi::packet::Op;
use baton_pool::bell::Bell;

use super::{bare, write};

/// What ends the sleep of this replica's loop.
#[derive(Clone, Copy, Debug)]
pub struct Alarm {
    bell: &'static Bell,
    /// Where the loop sleeps, if that is not the bell.
    socket: Option<&'static OwnedFd>,
}

impl Alarm {
    pub(crate) fn new(bell: &'static Bell, socket: Option<&'static OwnedFd>) -> Alarm {
        Alarm { bell, socket }
    }

    /// Wakes the loop if it sleeps, or says that it does. Call after publishing what there is to do.
    pub fn ring(&self) {
        match self.socket {
            None => self.bell.ring(),
            Some(socket) if self.bell.must_wake() => {
                // A socket that is no more has nobody to wake.
                let _ = write(socket, &bare(Op::Wake));
            }
            Some(_) => {}
        }
    }

    /// The bell that the loop sleeps on, if it sleeps on one.
    #[must_use]
    pub fn bell(&self) -> Option<&'static Bell> {
        self.socket.is_none().then_some(self.bell)
    }

    /// What becomes readable when there is something to do, where the loop sleeps on no bell.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'static>> {
        self.socket.map(|socket| socket.as_fd())
    }
}
