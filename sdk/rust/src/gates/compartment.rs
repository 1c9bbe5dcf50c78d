//! The loop of a function in a compartment: events come by the receive gate, which takes the answer of the last one along.

use std::future::Future;
use std::process::ExitCode;

use baton_abi::gate::Parcel;

use super::Gates;
use super::turn::{Loop, Replies};
use crate::context::Context;
use crate::executor::Outcome;
use crate::request::Request;

impl Gates {
    /// Works until the node says that it is enough. The function's snapshot is taken inside its first receive.
    pub(crate) fn run<M, F>(&'static self, make: M) -> ExitCode
    where
        M: Fn(Context, Request) -> F,
        F: Future<Output = Outcome>,
    {
        let mut work = Loop::new(self, make);
        let mut is_over = false;
        // Said once: those who look from outside see by it what is only kept for later.
        let mut event = Parcel { kept_at: super::kept::at(), ..Parcel::EMPTY };
        loop {
            if !work.replies.receive(&mut event) {
                return ExitCode::FAILURE;
            }
            is_over |= work.turn(&event);
            if is_over && work.tasks.live() == 0 {
                work.replies.flush();
                return ExitCode::SUCCESS;
            }
        }
    }
}

impl Replies {
    /// Sends the answer that waits and takes the next event. `false` when the gate gives none.
    #[inline]
    fn receive(&mut self, event: &mut Parcel) -> bool {
        self.gates.next_epoch();
        let reply = self.is_waiting.then_some(&self.parcel);
        let mut got = self.gates.page.receive(reply, event);
        if self.sent(got) {
            got = self.gates.page.receive(None, event);
        }
        got >= 0
    }
}
