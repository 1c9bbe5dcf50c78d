//! One simulation, from its first event to its last.
//!
//! ```text
//!   Arrive ─▶ route ─┬─ here ────────────────────────▶ admit ─┬─ Run ──▶ Done ─▶ next function, or the answer
//!                    └─ there ─▶ Deliver ─┬─ takes it ─▶      ├─ Queue ─▶ Started or Done make room ─▶ Run
//!                                         └─ does not ─▶ route└─ Refuse ─▶ another node, or the end
//! ```
//!
//! `assign`, `route`, `admit` and `choose` are those of the product; what is simulated is what they are told, and when.

use baton_placement::{Admission, Load, Policy, Waiting, admit, choose};

use crate::board::Row;
use crate::dice::Dice;
use crate::measure::{Case, Outcome, Summary, Tally};
use crate::routers::Router;
use crate::time::{Agenda, MICROSECOND, MILLISECOND, Nanos, SECOND};
use crate::workload::{self, App};
use crate::world::{CORES, QUEUE, REPLICAS_MAX, State, Ticket, World};

mod faults;
mod reports;

/// One way on the network, handling included; as much again by chance.
const HOP: Nanos = 100 * MICROSECOND;
/// From here on nobody may send to a node that died.
const FORGET: Nanos = 3 * SECOND;
/// Nodes that are asked for one call before it is refused.
const TRIES_MAX: u32 = 4;
/// After the last arrival, this long for what is under way to end.
const LEFTOVER: Nanos = 600 * SECOND;

/// What to simulate.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) nodes: u32,
    pub(crate) apps: u32,
    pub(crate) policy: Policy,
    pub(crate) router: Router,
    pub(crate) minds_cores: bool,
    /// Nodes that send a call back rather than have it wait, before one keeps it.
    pub(crate) bounces: u32,
    /// Share of all cores that is asked for.
    pub(crate) load: f64,
    /// Not counted, so that replicas are there.
    pub(crate) warm_up: Nanos,
    pub(crate) window: Nanos,
    /// Nodes that die, and nodes that drain.
    pub(crate) deaths: u32,
    pub(crate) drains: u32,
    pub(crate) report_every: Nanos,
    /// Of so many reports, one is late.
    pub(crate) late_one_of: u32,
    pub(crate) seed: u64,
}

enum Event {
    Arrive { app: u32 },
    Deliver { ticket: Ticket, node: u32 },
    Bounced { ticket: Ticket },
    Done { ticket: Ticket, node: u32, function: u32, replica: usize },
    Started { function: u32, node: u32 },
    Report { node: u32 },
    Rows { node: u32, written: Nanos, busy: u32, rows: Vec<Row> },
    Sample,
    Die { node: u32 },
    Detect { node: u32 },
    Drain { node: u32 },
}

/// An invocation.
struct Call {
    app: u32,
    /// The node that its client is connected to.
    gateway: u32,
    /// The node that sent the current step, and the one that it was sent to.
    from: u32,
    at: u32,
    step: u32,
    steps: u32,
    attempt: u32,
    tries: u32,
    arrived: Nanos,
    /// What its handlers took so far, and what the one that runs takes.
    service: Nanos,
    running: Nanos,
    counted: bool,
    ended: bool,
}

struct Run {
    settings: Settings,
    agenda: Agenda<Event>,
    world: World,
    calls: Vec<Call>,
    tally: Tally,
    /// Arrivals and durations are the same whatever the router does.
    arrivals: Dice,
    services: Dice,
    network: Dice,
    draws: Dice,
}

/// Simulates a cluster.
pub(crate) fn run(settings: &Settings) -> Summary {
    let cores = f64::from(settings.nodes) * f64::from(CORES);
    let apps = workload::apps(settings.apps, cores, settings.load, settings.seed);
    let dice = |stream| Dice::new(settings.seed, stream);
    let mut run = Run {
        settings: settings.clone(),
        agenda: Agenda::new(),
        world: World::new(apps, settings.nodes, settings.policy, settings.minds_cores),
        calls: Vec::new(),
        tally: Tally::new(),
        arrivals: dice(2),
        services: dice(3),
        network: dice(4),
        draws: dice(5),
    };
    run.begin();
    while let Some(event) = run.agenda.next() {
        run.happen(event);
    }
    let open = run.calls.iter().filter(|call| !call.ended).count();
    if open > 0 {
        run.tally.violation(format!("{open} invocations never ended"));
    }
    run.tally.summary(Case {
        nodes: settings.nodes,
        apps: settings.apps,
        policy: if settings.policy == Policy::Pack { "pack" } else { "spread" },
        router: settings.router.name(),
        minds_cores: settings.minds_cores,
        bounces: settings.bounces,
        report_ms: settings.report_every / MILLISECOND,
        seed: settings.seed,
    })
}

impl Run {
    fn begin(&mut self) {
        for app in 0..self.settings.apps {
            if let Some(it) = self.world.apps.get(app as usize) {
                let first = it.first_call(&mut self.arrivals);
                self.agenda.after(first, Event::Arrive { app });
            }
        }
        for node in 0..self.settings.nodes {
            // Nodes do not report in step.
            let phase = u64::from(self.network.below(1_000_000)) * self.settings.report_every / 1_000_000;
            self.agenda.after(phase, Event::Report { node });
        }
        self.agenda.after(SECOND, Event::Sample);
        self.plan_faults();
    }

    fn end_of_arrivals(&self) -> Nanos {
        self.settings.warm_up + self.settings.window
    }

    fn counts(&self, at: Nanos) -> bool {
        at >= self.settings.warm_up && at < self.end_of_arrivals()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { app } => self.arrive(app),
            Event::Deliver { ticket, node } => self.deliver(ticket, node),
            Event::Bounced { ticket } => self.bounced(ticket),
            Event::Done { ticket, node, function, replica } => self.done(ticket, node, function, replica),
            Event::Started { function, node } => self.started(function, node),
            Event::Report { node } => self.report(node),
            Event::Rows { node, written, busy, rows } => self.rows(node, written, busy, &rows),
            Event::Sample => self.sample(),
            Event::Die { node } => self.die(node),
            Event::Detect { node } => self.detect(node),
            Event::Drain { node } => self.drain(node),
        }
    }

    fn arrive(&mut self, app: u32) {
        let now = self.agenda.now();
        let Some(it) = self.world.apps.get(app as usize) else { return };
        let next = it.next_call(&mut self.arrivals).max(MICROSECOND);
        let steps = it.steps(&mut self.services);
        if now + next < self.end_of_arrivals() {
            self.agenda.after(next, Event::Arrive { app });
        }
        if now >= self.end_of_arrivals() {
            return;
        }
        let mut gateway = self.arrivals.below(self.settings.nodes);
        // A client takes the next address if it cannot connect.
        while self.world.state(gateway) != State::Up {
            gateway = (gateway + 1) % self.settings.nodes;
        }
        let counted = self.counts(now);
        let call = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.push(Call {
            app,
            gateway,
            from: gateway,
            at: gateway,
            step: 0,
            steps,
            attempt: 0,
            tries: 0,
            arrived: now,
            service: 0,
            running: 0,
            counted,
            ended: false,
        });
        self.tally.invocations += u64::from(counted);
        self.dispatch(call);
    }

    fn app(&self, call: &Call) -> Option<&App> {
        self.world.apps.get(call.app as usize)
    }

    fn function(&self, call: u32) -> u32 {
        let call = self.calls.get(call as usize);
        call.and_then(|call| Some(self.app(call)?.first + call.step)).unwrap_or_default()
    }

    /// Sends the current step of an invocation somewhere.
    fn dispatch(&mut self, call: u32) {
        let function = self.function(call);
        let Some(it) = self.calls.get_mut(call as usize) else { return };
        it.attempt += 1;
        it.tries += 1;
        let (from, counted, tries) = (it.from, it.counted, it.tries);
        let ticket = Ticket { call, attempt: it.attempt };
        if tries > TRIES_MAX {
            return self.finish(call, Outcome::Refused);
        }
        let chosen = self.settings.router.choose(&mut self.world, function, from, &mut self.draws);
        let Some(node) = chosen else { return self.finish(call, Outcome::Nowhere) };
        self.check_alive(node);
        if let Some(it) = self.calls.get_mut(call as usize) {
            it.at = node;
        }
        self.tally.calls += u64::from(counted && tries == 1);
        self.tally.again += u64::from(counted && tries > 1);
        if node == from {
            self.tally.local += u64::from(counted && tries == 1);
            self.offer(ticket, node);
        } else {
            let delay = self.hop();
            self.world.count(node, 0, 0, 1);
            self.agenda.after(delay, Event::Deliver { ticket, node });
        }
    }

    /// The promise of the cluster: within three seconds of its death, a node is out of the routes.
    fn check_alive(&mut self, node: u32) {
        let died = self.world.machines.get(node as usize).and_then(|machine| machine.died);
        if let Some(died) = died
            && self.agenda.now() > died + FORGET
        {
            let late = (self.agenda.now() - died) / MILLISECOND;
            self.tally.violation(format!("a call was sent to node {node} {late} ms after its death"));
        }
    }

    fn hop(&mut self) -> Nanos {
        HOP + u64::from(self.network.below(u32::try_from(HOP).unwrap_or(u32::MAX)))
    }

    /// Whether this is still the attempt that is under way.
    fn is_current(&self, ticket: Ticket) -> bool {
        self.calls.get(ticket.call as usize).is_some_and(|call| !call.ended && call.attempt == ticket.attempt)
    }

    fn deliver(&mut self, ticket: Ticket, node: u32) {
        self.world.count(node, 0, 0, -1);
        if !self.is_current(ticket) {
            return;
        }
        match self.world.state(node) {
            State::Up if self.bounces(ticket, node) => {
                let delay = self.hop();
                self.agenda.after(delay, Event::Bounced { ticket });
            }
            State::Up if self.world.is_host(self.function(ticket.call), node) => self.offer(ticket, node),
            // Not begun, and it says so: any other node may have it.
            State::Up | State::Draining => self.dispatch(ticket.call),
            State::Dead => self.strand(ticket, node),
            State::Gone => self.lose(ticket),
        }
    }

    /// Whether a node sends a call back, not begun, since others may have room: it would wait here, and not for a replica to start.
    fn bounces(&self, ticket: Ticket, node: u32) -> bool {
        let tries = self.calls.get(ticket.call as usize).map_or(0, |call| call.tries);
        let here = self.world.here(self.function(ticket.call), node);
        tries <= self.settings.bounces
            && here.is_some_and(|here| {
                here.running + here.queued > 0 && (here.queued > 0 || here.running >= here.room)
            })
    }

    fn bounced(&mut self, ticket: Ticket) {
        if self.is_current(ticket) {
            self.tally.bounced += 1;
            self.dispatch(ticket.call);
        }
    }

    /// A node looks whether it has room for a call.
    fn offer(&mut self, ticket: Ticket, node: u32) {
        let function = self.function(ticket.call);
        let now = self.agenda.now();
        let start = self.start_time(function);
        let counted = self.calls.get(ticket.call as usize).is_some_and(|call| call.counted);
        let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
        let local = machine.locals.entry(function).or_default();
        local.used = now;
        local.cursor = local.cursor.wrapping_add(1);
        let waiting = Waiting { queued: local.queued(), bound: QUEUE };
        match admit(&local.loads, local.cursor, waiting) {
            Admission::Run(replica) => self.begin_call(ticket, node, replica),
            Admission::Refuse => self.dispatch(ticket.call),
            Admission::Queue => {
                local.queue.push_back(ticket);
                let there = u32::try_from(local.loads.len()).unwrap_or(u32::MAX);
                // As many start as wait.
                if local.starting < local.queued() && there + local.starting < REPLICAS_MAX {
                    local.starting += 1;
                    self.agenda.after(start, Event::Started { function, node });
                    self.tally.cold += u64::from(counted);
                }
                self.world.count(node, 0, 1, 0);
            }
        }
    }

    fn start_time(&self, function: u32) -> Nanos {
        let place = self.world.place(function);
        let app = self.world.apps.get(place.app);
        app.and_then(|app| app.functions.get(place.function)).map_or(MILLISECOND, |it| it.start)
    }

    fn begin_call(&mut self, ticket: Ticket, node: u32, replica: usize) {
        let place = self.world.place(self.function(ticket.call));
        let function = self.world.apps.get(place.app).and_then(|app| app.functions.get(place.function));
        let Some(service) = function.map(|function| function.service(&mut self.services)) else { return };
        let number = self.function(ticket.call);
        self.world.count(node, 1, 0, 0);
        let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
        if let Some(load) = machine.locals.get_mut(&number).and_then(|local| local.loads.get_mut(replica)) {
            load.in_flight += 1;
        }
        // More calls than cores: each takes longer, by what there is to share as it begins.
        let stretched = service * u64::from(machine.running.max(CORES)) / u64::from(CORES);
        if let Some(call) = self.calls.get_mut(ticket.call as usize) {
            call.running = service;
        }
        self.agenda.after(stretched, Event::Done { ticket, node, function: number, replica });
    }

    fn done(&mut self, ticket: Ticket, node: u32, function: u32, replica: usize) {
        if matches!(self.world.state(node), State::Dead | State::Gone) {
            return;
        }
        // Also what nobody waits for any more takes its place until it is done.
        self.world.count(node, -1, 0, 0);
        let now = self.agenda.now();
        if let Some(local) =
            self.world.machines.get_mut(node as usize).and_then(|machine| machine.locals.get_mut(&function))
        {
            local.used = now;
            if let Some(load) = local.loads.get_mut(replica) {
                load.in_flight = load.in_flight.saturating_sub(1);
            }
        }
        self.serve_queue(function, node);
        if !self.is_current(ticket) {
            return;
        }
        let Some(call) = self.calls.get_mut(ticket.call as usize) else { return };
        call.service += call.running;
        call.step += 1;
        call.from = node;
        call.tries = 0;
        if call.step < call.steps {
            self.dispatch(ticket.call);
        } else {
            self.finish(ticket.call, Outcome::Answered);
        }
    }

    /// Room became free: who waits longest gets it.
    fn serve_queue(&mut self, function: u32, node: u32) {
        loop {
            let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
            let Some(local) = machine.locals.get_mut(&function) else { return };
            let Some(replica) = choose(&local.loads, local.cursor) else { return };
            let Some(ticket) = local.queue.pop_front() else { return };
            self.world.count(node, 0, -1, 0);
            if self.is_current(ticket) {
                self.begin_call(ticket, node, replica);
            }
        }
    }

    fn started(&mut self, function: u32, node: u32) {
        if matches!(self.world.state(node), State::Dead | State::Gone) {
            return;
        }
        let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
        let local = machine.locals.entry(function).or_default();
        local.starting = local.starting.saturating_sub(1);
        local.loads.push(Load { in_flight: 0, concurrency: 1, ready: true });
        if let Some(warm) = self.world.warm.get_mut(function as usize) {
            warm.insert(node);
        }
        self.serve_queue(function, node);
    }

    fn finish(&mut self, call: u32, outcome: Outcome) {
        let now = self.agenda.now();
        let Some(it) = self.calls.get_mut(call as usize) else { return };
        if it.ended {
            self.tally.violation(format!("invocation {call} ended a second time, {outcome:?}"));
            return;
        }
        it.ended = true;
        if it.counted {
            let back = if it.from == it.gateway { 0 } else { HOP + HOP / 2 };
            self.tally.end(outcome, (now + back).saturating_sub(it.arrived + it.service));
        }
    }
}
