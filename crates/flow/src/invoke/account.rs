//! What is counted of an invocation at its end.

use std::rc::Rc;
use std::time::Instant;

use super::Reply;
use crate::app::App;
use crate::error::InvokeError;
use crate::tally::Answered;
use crate::traces::OpenSpan;

/// What is told of an invocation at its end.
pub(crate) struct Account {
    pub(super) app: Rc<App>,
    pub(super) function: usize,
    pub(super) started: Instant,
    pub(super) invocation: u64,
    pub(super) record: bool,
    pub(super) span: Option<OpenSpan>,
    pub(super) bytes_in: u64,
    /// Whether the gateway or the admin API of this node wanted it.
    pub(super) is_own: bool,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    /// There was no answer, or it broke off.
    pub(crate) is_error: bool,
    /// That was not its caller's fault.
    pub(crate) is_failure: bool,
    pub(crate) bytes_out: u64,
}

impl Closed {
    pub(super) fn of(result: &Result<Reply, InvokeError>) -> Closed {
        match result {
            Ok(reply) => Closed {
                is_error: false,
                is_failure: reply.status >= 500,
                bytes_out: bytes::Buf::remaining(&reply.body) as u64,
            },
            Err(error) => Closed { is_error: true, is_failure: error.is_failure(), bytes_out: 0 },
        }
    }
}

impl Account {
    pub(crate) fn close(self, status: u16, closed: &Closed) {
        let Account { app, function, started, invocation, record, span, bytes_in, is_own } = self;
        let took = started.elapsed();
        if is_own {
            app.count(closed.is_failure);
        }
        if let Some(state) = app.functions.get(function) {
            state.calls.set(state.calls.get() + 1);
            let Closed { is_error, bytes_out, .. } = *closed;
            state.tally.add(&Answered { status, is_error, is_own, took, bytes_in, bytes_out });
            if is_error {
                state.errors.set(state.errors.get() + 1);
                app.node.totals.borrow_mut().failures += 1;
            }
        }
        if let Some(span) = span {
            span.end(status);
        }
        if record {
            let wall_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            app.node.receipts.borrow_mut().end(invocation, status, wall_ns);
        }
    }
}
