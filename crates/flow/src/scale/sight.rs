//! What the scaler is shown.

use std::rc::Rc;

use baton_placement::Sight;

use super::{Unit, What};
use crate::app::{App, FunctionState};
use crate::replica::{Phase, Replica};

/// A full replica, as the scaler counts.
const WHOLE: u64 = 1_000;
/// Turns of a loop that one nudge may bring about.
const TURNS_A_NUDGE: u64 = 3;

impl Unit {
    /// What there is to see now. A place that leaves counts as one that is gone.
    pub(super) fn sight(&self, app: &App) -> Sight {
        let (running, waiting) = match &self.what {
            What::Processes(function) => app.functions.get(*function).map_or((0, 0), of_processes),
            What::Cells(_) => self.of_cells(app),
        };
        let ready = self.functions().first().and_then(|first| app.functions.get(*first)).map_or(0, |state| {
            let replicas = state.replicas.borrow();
            let is_ready = |up: &&Rc<Replica>| up.phase.get() == Phase::Ready;
            u32::try_from(replicas.iter().flatten().filter(is_ready).count()).unwrap_or(u32::MAX)
        });
        let seen = self.done(app);
        let is_active = seen.is_work_since(&self.seen.replace(seen));
        Sight { running, waiting, wanted: is_active || app.is_wanted(self), ready }
    }

    /// Functions of a cell share its thread: the busiest of them says how full the cells are.
    fn of_cells(&self, app: &App) -> (u64, u64) {
        let states = self.functions().iter().filter_map(|function| app.functions.get(*function));
        let (mut running, mut waiting, mut in_hand, mut bells, mut most) = (0, 0, 0, 0, 1);
        for (seat, state) in states.enumerate() {
            let concurrency = u64::from(state.spec.scale.concurrency.max(1));
            let mut calls = 0;
            for up in state.replicas.borrow().iter().flatten() {
                calls += u64::from(up.in_flight());
                if seat == 0 {
                    bells += u64::from(up.peer.borrow().bell().in_flight());
                }
            }
            in_hand += calls;
            most = most.max(concurrency);
            running = running.max(calls * WHOLE / concurrency);
            waiting = waiting.max((state.queued() as u64 * WHOLE).div_ceil(concurrency));
        }
        if in_hand == 0 {
            // Others than the node called: all that is known is how many requests each cell has in all of its seats.
            running = (bells * WHOLE / most).min(u64::from(self.wanted()) * WHOLE);
        }
        (running, waiting)
    }

    /// What its replicas have done so far.
    fn done(&self, app: &App) -> Seen {
        let states = self.functions().iter().filter_map(|function| app.functions.get(*function));
        let mut seen = Seen::default();
        for (seat, state) in states.enumerate() {
            seen.calls = seen.calls.wrapping_add(state.calls.get());
            for up in state.replicas.borrow().iter().flatten() {
                seen.replicas = seen.replicas.wrapping_mul(31).wrapping_add(u64::from(up.holder));
                seen.nudges = seen.nudges.wrapping_add(u64::from(up.nudges.get()));
                if seat == 0 {
                    let turn = up.peer.borrow().bell().turn();
                    seen.turns = seen.turns.wrapping_add(u64::from(turn));
                }
            }
        }
        seen
    }
}

/// What replicas have done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Calls of the node that were answered.
    calls: u64,
    /// Times that their loops came round.
    turns: u64,
    /// Times that the node had them come round, for something else than a call.
    nudges: u64,
    /// Which replicas they are.
    replicas: u64,
}

impl Seen {
    /// Whether something was done that nobody but a call or the function itself can have brought about.
    fn is_work_since(&self, before: &Seen) -> bool {
        let turns = self.turns.wrapping_sub(before.turns);
        let nudges = self.nudges.wrapping_sub(before.nudges);
        let are_the_same = self.replicas == before.replicas;
        self.calls != before.calls || (are_the_same && turns > nudges.saturating_mul(TURNS_A_NUDGE))
    }
}

/// A replica's own word on how much it has in its hands counts up to what it may have.
fn of_processes(state: &FunctionState) -> (u64, u64) {
    let concurrency = state.spec.scale.concurrency.max(1);
    let in_hand = |up: &Rc<Replica>| {
        let said = up.peer.borrow().bell().in_flight();
        u64::from(up.in_flight().max(said).min(concurrency))
    };
    let running: u64 = state.replicas.borrow().iter().flatten().map(in_hand).sum();
    let whole = u64::from(concurrency);
    (running * WHOLE / whole, (state.queued() as u64 * WHOLE).div_ceil(whole))
}

impl App {
    /// Whether a request is waiting or under way that may lead to this unit.
    pub(crate) fn is_wanted(&self, unit: &Unit) -> bool {
        let is_busy = |state: &FunctionState| {
            let in_hand = |up: &Rc<Replica>| up.in_flight() > 0;
            state.queued() > 0 || state.replicas.borrow().iter().flatten().any(in_hand)
        };
        unit.callers.iter().filter_map(|number| self.functions.get(*number)).any(is_busy)
    }
}
