//! The scaler on one node: functions that are called as Azure Functions published it, in simulated time that is not compressed.
//!
//! ```text
//!   Arrive ─▶ a ready replica has room ─▶ Done            warm
//!          └▶ waits ─▶ (2 ms) look ─▶ Started ─▶ Done     cold if none was ready as it came
//!   look, again after what the scaler says ─▶ more are started, or idle ones go
//! ```
//! `Scaler` is that of the product, unchanged. Beside it stands what most platforms do: a request that finds no idle replica
//! starts one, and each is kept for a fixed time after its last request.

use std::collections::VecDeque;
use std::time::Duration;

use baton_placement::{Bounds, LOOK_EVERY, Scaler, Sight};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::dice::Dice;
use crate::time::{Agenda, MICROSECOND, Nanos, SECOND, nanos};
use crate::workload::{self, App};

/// Replicas of a function.
const REPLICAS_MAX: u32 = 64;
/// A call that waits has itself looked after so soon, as in the product.
const STARVED_AFTER: Nanos = 2_000_000;
/// No function is called more often than this: the few that are have warm replicas under every policy.
const GAP_MIN: f64 = 0.05;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The product's scaler, with this `idle`.
    Scaler(Duration),
    /// A replica for each request that finds none idle, kept for so long.
    Keep(Duration),
}

impl Policy {
    fn name(self) -> String {
        match self {
            Policy::Scaler(idle) => format!("baton, idle {} s", idle.as_secs()),
            Policy::Keep(idle) => format!("kept {} s", idle.as_secs()),
        }
    }
}

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) functions: u32,
    /// Not counted, so that what is kept is there.
    pub(crate) warm_up: Nanos,
    pub(crate) window: Nanos,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) policy: String,
    pub(crate) functions: u32,
    pub(crate) calls: u64,
    /// Share of calls that found a replica ready as they came.
    pub(crate) warm: f64,
    /// Waiting, in milliseconds.
    pub(crate) added_ms_p50: f64,
    pub(crate) added_ms_p99: f64,
    pub(crate) added_ms_p999: f64,
    pub(crate) starts: u64,
    /// Memory times time of all replicas, starting ones included, in gibibyte-seconds.
    pub(crate) gib_seconds: f64,
    /// Of that, the share in which they had nothing to do.
    pub(crate) idle_share: f64,
    pub(crate) replicas_most: u32,
}

#[derive(Clone, Copy)]
enum Event {
    Arrive(usize),
    Done(usize),
    Started(usize),
    /// A look, unless another one was planned since.
    Look(usize, u64),
    /// A replica that went idle at that time may have had its time.
    Expire(usize),
}

/// A function on the node.
struct Local {
    app: App,
    bounds: Bounds,
    scaler: Option<Box<Scaler>>,
    looks: u64,
    due: Option<Nanos>,
    starting: u32,
    busy: u32,
    /// Since when each idle one is idle, the one that was used last at the end.
    idle: Vec<Nanos>,
    /// When those came that wait, and whether none was ready then.
    queue: VecDeque<(Nanos, bool)>,
    /// Busy ones that are to go.
    leaving: u32,
    called: bool,
    changed: Nanos,
}

struct Run {
    policy: Policy,
    settings: Settings,
    agenda: Agenda<Event>,
    locals: Vec<Local>,
    arrivals: Dice,
    services: Dice,
    row: Row,
    waits: Histogram<u64>,
    warm: u64,
    byte_seconds: f64,
    idle_byte_seconds: f64,
    replicas: u32,
}

/// Simulates each policy with the same calls.
pub(crate) fn rows(settings: &Settings) -> Vec<Row> {
    let [minute, ten] = [60, 600].map(Duration::from_secs);
    let policies = [Policy::Scaler(minute), Policy::Scaler(ten), Policy::Keep(minute), Policy::Keep(ten)];
    policies.into_iter().map(|policy| run(policy, settings)).collect()
}

fn run(policy: Policy, settings: &Settings) -> Row {
    let (Policy::Scaler(idle) | Policy::Keep(idle)) = policy;
    let bounds = Bounds { min: 0, max: REPLICAS_MAX, idle };
    let local = |app| Local {
        app,
        bounds,
        scaler: None,
        looks: 0,
        due: None,
        starting: 0,
        busy: 0,
        idle: Vec::new(),
        queue: VecDeque::new(),
        leaving: 0,
        called: false,
        changed: 0,
    };
    let mut run = Run {
        policy,
        settings: *settings,
        agenda: Agenda::new(),
        locals: workload::single(settings.functions, GAP_MIN, settings.seed).into_iter().map(local).collect(),
        arrivals: Dice::new(settings.seed, 12),
        services: Dice::new(settings.seed, 13),
        row: Row {
            policy: policy.name(),
            functions: settings.functions,
            calls: 0,
            warm: 0.0,
            added_ms_p50: 0.0,
            added_ms_p99: 0.0,
            added_ms_p999: 0.0,
            starts: 0,
            gib_seconds: 0.0,
            idle_share: 0.0,
            replicas_most: 0,
        },
        waits: Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are a precision")),
        warm: 0,
        byte_seconds: 0.0,
        idle_byte_seconds: 0.0,
        replicas: 0,
    };
    for function in 0..run.locals.len() {
        run.plan_arrival(function, true);
    }
    while let Some(event) = run.agenda.next() {
        if run.agenda.now() > settings.warm_up + settings.window {
            break;
        }
        run.happen(event);
    }
    run.finish()
}

impl Run {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(function) => self.arrive(function),
            Event::Done(function) => self.done(function),
            Event::Started(function) => self.started(function),
            Event::Look(function, number) => {
                if self.locals.get(function).is_some_and(|local| local.looks == number) {
                    self.look(function);
                }
            }
            Event::Expire(function) => self.expire(function),
        }
    }

    fn counts(&self) -> bool {
        self.agenda.now() >= self.settings.warm_up
    }

    /// Notes what the replicas of a function held since the last change.
    fn settle(&mut self, function: usize) {
        let (now, from) = (self.agenda.now(), self.settings.warm_up);
        let Some(local) = self.locals.get_mut(function) else { return };
        let memory = local.app.functions.first().map_or(0, |it| it.memory);
        let seconds = now.saturating_sub(local.changed.max(from)) as f64 / 1e9;
        let idle = local.idle.len() as f64;
        let all = f64::from(local.starting + local.busy) + idle;
        self.byte_seconds += all * memory as f64 * seconds;
        self.idle_byte_seconds += idle * memory as f64 * seconds;
        local.changed = now;
    }

    fn plan_arrival(&mut self, function: usize, first: bool) {
        let Some(local) = self.locals.get(function) else { return };
        let gap = match first {
            true => local.app.first_call(&mut self.arrivals),
            false => local.app.next_call(&mut self.arrivals),
        };
        self.agenda.after(gap.max(MICROSECOND), Event::Arrive(function));
    }

    fn arrive(&mut self, function: usize) {
        self.plan_arrival(function, false);
        let (now, counts) = (self.agenda.now(), self.counts());
        let Some(local) = self.locals.get_mut(function) else { return };
        local.called = true;
        let is_ready = local.busy > 0 || !local.idle.is_empty();
        local.queue.push_back((now, is_ready));
        if counts {
            self.row.calls += 1;
            self.warm += u64::from(is_ready);
        }
        self.serve(function);
        let Some(local) = self.locals.get(function) else { return };
        let waits = !local.queue.is_empty();
        match self.policy {
            // A function at rest starts one at once; a call that waits has itself looked after soon.
            Policy::Scaler(_) if local.scaler.as_ref().is_none_or(|scaler| scaler.replicas() == 0) => {
                self.look(function);
            }
            Policy::Scaler(_) if waits => self.look_within(function, STARVED_AFTER),
            Policy::Scaler(_) => self.look_within(function, nanos(LOOK_EVERY.as_secs_f64())),
            Policy::Keep(_) if waits && local.busy + local.starting < REPLICAS_MAX => self.start(function),
            Policy::Keep(_) => {}
        }
    }

    /// Gives idle replicas to those that wait.
    fn serve(&mut self, function: usize) {
        self.settle(function);
        let (now, counts) = (self.agenda.now(), self.counts());
        let Some(local) = self.locals.get_mut(function) else { return };
        while !local.queue.is_empty()
            && let Some(_) = local.idle.pop()
        {
            let Some((since, _)) = local.queue.pop_front() else { return };
            local.busy += 1;
            if counts {
                let _ = self.waits.record((now - since) / MICROSECOND);
            }
            let service = local.app.functions.first().map_or(0, |it| it.service(&mut self.services));
            self.agenda.after(service, Event::Done(function));
        }
    }

    fn done(&mut self, function: usize) {
        self.settle(function);
        let now = self.agenda.now();
        let Some(local) = self.locals.get_mut(function) else { return };
        local.busy -= 1;
        if local.leaving > 0 {
            local.leaving -= 1;
            self.replicas -= 1;
            return;
        }
        local.idle.push(now);
        if let Policy::Keep(idle) = self.policy {
            self.agenda.after(nanos(idle.as_secs_f64()), Event::Expire(function));
        }
        self.serve(function);
    }

    fn start(&mut self, function: usize) {
        self.settle(function);
        let counts = self.counts();
        let Some(local) = self.locals.get_mut(function) else { return };
        local.starting += 1;
        self.replicas += 1;
        self.row.starts += u64::from(counts);
        self.row.replicas_most = self.row.replicas_most.max(self.replicas);
        let start = local.app.functions.first().map_or(SECOND, |it| it.start);
        self.agenda.after(start, Event::Started(function));
    }

    fn started(&mut self, function: usize) {
        self.settle(function);
        let now = self.agenda.now();
        let Some(local) = self.locals.get_mut(function) else { return };
        local.starting -= 1;
        local.idle.push(now);
        if let Policy::Keep(idle) = self.policy {
            self.agenda.after(nanos(idle.as_secs_f64()), Event::Expire(function));
        }
        self.serve(function);
    }

    /// Lets those go that were idle for as long as they are kept.
    fn expire(&mut self, function: usize) {
        self.settle(function);
        let now = self.agenda.now();
        let Some(local) = self.locals.get_mut(function) else { return };
        let kept = nanos(local.bounds.idle.as_secs_f64());
        let before = local.idle.len();
        local.idle.retain(|since| now - since < kept);
        self.replicas -= u32::try_from(before - local.idle.len()).unwrap_or_default();
    }

    fn look_within(&mut self, function: usize, delay: Nanos) {
        let now = self.agenda.now();
        let Some(local) = self.locals.get_mut(function) else { return };
        if local.due.is_some_and(|due| due <= now + delay) {
            return;
        }
        local.looks += 1;
        local.due = Some(now + delay);
        let number = local.looks;
        self.agenda.after(delay, Event::Look(function, number));
    }

    /// Asks the scaler, and does what it says.
    fn look(&mut self, function: usize) {
        self.settle(function);
        let now = Duration::from_nanos(self.agenda.now());
        let Some(local) = self.locals.get_mut(function) else { return };
        let ready = local.busy - local.leaving + u32::try_from(local.idle.len()).unwrap_or(u32::MAX);
        let sight = Sight {
            running: u64::from(local.busy) * 1_000,
            waiting: local.queue.len() as u64 * 1_000,
            wanted: std::mem::take(&mut local.called) || local.busy > 0,
            ready,
        };
        let fresh = || Box::new(Scaler::new(0, &local.bounds, now));
        let decision = local.scaler.get_or_insert_with(fresh).look(&local.bounds, &sight, now);
        local.due = None;
        let there = ready + local.starting;
        if decision.replicas < there {
            let mut surplus = there - decision.replicas;
            while surplus > 0 && !local.idle.is_empty() {
                // The one that was not used for longest.
                local.idle.remove(0);
                self.replicas -= 1;
                surplus -= 1;
            }
            local.leaving += surplus.min(local.busy - local.leaving);
        }
        let mut missing = decision.replicas.saturating_sub(there);
        while missing > 0 && local.leaving > 0 {
            local.leaving -= 1;
            missing -= 1;
        }
        if decision.again.is_none() {
            local.scaler = None;
        }
        for _ in 0..missing {
            self.start(function);
        }
        if let Some(again) = decision.again {
            self.look_within(function, nanos(again.as_secs_f64()));
        }
    }

    fn finish(mut self) -> Row {
        for function in 0..self.locals.len() {
            self.settle(function);
        }
        let ms = |quantile| self.waits.value_at_quantile(quantile) as f64 / 1e3;
        Row {
            warm: self.warm as f64 / self.row.calls.max(1) as f64,
            added_ms_p50: ms(0.5),
            added_ms_p99: ms(0.99),
            added_ms_p999: ms(0.999),
            gib_seconds: self.byte_seconds / f64::from(1 << 30),
            idle_share: self.idle_byte_seconds / self.byte_seconds.max(1.0),
            ..self.row
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scaler_starts_fewer_and_holds_less_than_keeping_does() {
        let settings = Settings { functions: 60, warm_up: 120 * SECOND, window: 600 * SECOND, seed: 3 };
        let rows = rows(&settings);
        let calls: Vec<u64> = rows.iter().map(|row| row.calls).collect();
        assert!(calls.iter().all(|count| *count == calls[0] && *count > 1_000), "{calls:?}");
        let [minute, ten, kept_minute, kept_ten] = &rows[..] else { panic!("{rows:?}") };
        assert!(minute.gib_seconds < ten.gib_seconds && kept_minute.gib_seconds < kept_ten.gib_seconds);
        assert!(minute.gib_seconds < kept_ten.gib_seconds, "{minute:?} {kept_ten:?}");
        assert!(ten.warm >= minute.warm && minute.warm > 0.5, "{minute:?} {ten:?}");
        assert!(rows.iter().all(|row| row.idle_share > 0.0 && row.idle_share < 1.0), "{rows:?}");
    }
}
