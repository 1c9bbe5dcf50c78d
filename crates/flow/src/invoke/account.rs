//! What is counted of an invocation at its end.

use std::rc::Rc;
use std::time::Instant;

use crate::app::App;

/// What is told of an invocation at its end.
pub(crate) struct Account {
    pub(super) app: Rc<App>,
    pub(super) function: usize,
    pub(super) started: Instant,
    pub(super) invocation: u64,
    pub(super) record: bool,
}

impl Account {
    pub(crate) fn close(self, status: u16, is_well: bool) {
        let Account { app, function, started, invocation, record } = self;
        if let Some(state) = app.functions.get(function) {
            state.calls.set(state.calls.get() + 1);
            if !is_well {
                state.errors.set(state.errors.get() + 1);
                app.node.totals.borrow_mut().failures += 1;
            }
        }
        if record {
            let wall_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            app.node.receipts.borrow_mut().end(invocation, status, wall_ns);
        }
    }
}
