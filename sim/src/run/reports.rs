//! What nodes tell each other each second, and what is noted of them.

use super::{Event, LEFTOVER, Run};
use crate::board::Row;
use crate::time::{MILLISECOND, Nanos, SECOND};
use crate::world::{CORES, IDLE, State};

/// How long a report is under way as a rule.
const REPORT_DELAY: Nanos = 2 * MILLISECOND;
/// By how much at most a late one is late.
const REPORT_LATE: Nanos = 5 * SECOND;
/// A row that is older than so many intervals is no member's any more.
const ROW_LIFE_INTERVALS: u64 = 3;
impl Run {
    pub(super) fn report(&mut self, node: u32) {
        let now = self.agenda.now();
        if matches!(self.world.state(node), State::Dead | State::Gone) {
            return;
        }
        self.retire(node);
        let (busy, rows) = self.world.rows(node);
        if self.counts(now) {
            self.tally.reports += 1;
            self.tally.rows += rows.len() as u64;
        }
        let mut delay = REPORT_DELAY;
        if self.network.below(self.settings.late_one_of) == 0 {
            delay += u64::from(self.network.below(1000)) * REPORT_LATE / 1000;
        }
        self.agenda.after(delay, Event::Rows { node, written: now, busy, rows });
        if now < self.end_of_arrivals() + LEFTOVER && self.has_work() {
            self.agenda.after(self.settings.report_every, Event::Report { node });
        }
    }

    fn has_work(&self) -> bool {
        self.agenda.now() < self.end_of_arrivals()
            || self.world.by_load.last().is_some_and(|(calls, _)| *calls > 0)
    }

    /// Replicas that nobody called for long go.
    fn retire(&mut self, node: u32) {
        let now = self.agenda.now();
        let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
        let warm = &mut self.world.warm;
        machine.locals.retain(|function, local| {
            let busy = local.running() > 0 || local.starting > 0 || !local.queue.is_empty();
            let stays = busy || local.used + IDLE > now;
            if !stays && let Some(warm) = warm.get_mut(*function as usize) {
                warm.remove(&node);
            }
            stays
        });
    }

    pub(super) fn rows(&mut self, node: u32, written: Nanos, busy: u32, rows: &[Row]) {
        let life = ROW_LIFE_INTERVALS * self.settings.report_every;
        // A row that comes late must not bring back who is no member any more.
        if self.world.state(node) != State::Gone && written + life > self.agenda.now() {
            self.world.board.post(node, busy, rows);
        }
    }

    pub(super) fn sample(&mut self) {
        let now = self.agenda.now();
        if self.counts(now) {
            for machine in self.world.machines.iter().filter(|machine| machine.state == State::Up) {
                self.tally.samples += 1;
                self.tally.sample(u64::from(machine.all()) * 1000 / u64::from(CORES));
            }
        }
        if now < self.end_of_arrivals() {
            self.agenda.after(SECOND, Event::Sample);
        }
    }
}
