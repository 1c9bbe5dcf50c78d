//! The loop of the load generator: epoll, due times, time-outs, reconnection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::connection::{Arrival, Connection};
use super::response::Response;
use super::run::{HOUSEKEEPING, Run};
use super::{Errors, Outcome, Pace, Plan, Until};
use crate::units::nanos;

/// A request without an answer for this long is a time-out.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 256;

/// Why a load could not be set up.
#[derive(Debug)]
pub enum LoadError {
    /// No connection could be made.
    Connect(SocketAddr, io::Error),
    /// The kernel refused the event set.
    Events(io::Error),
    /// A plan has no counted step in its cycle.
    EmptyPlan,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(address, error) => write!(f, "no connection to {address}: {error}"),
            Self::Events(error) => write!(f, "epoll failed: {error}"),
            Self::EmptyPlan => f.write_str("a load plan has no counted request"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Connections to one server, kept from run to run.
#[derive(Debug)]
pub struct Load {
    address: SocketAddr,
    events: OwnedFd,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

impl Load {
    /// Connects once per plan.
    pub fn open(address: SocketAddr, plans: Vec<Plan>) -> Result<Self, LoadError> {
        if plans.is_empty() || plans.iter().any(|plan| !plan.cycle.iter().any(|step| step.counted)) {
            return Err(LoadError::EmptyPlan);
        }
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| LoadError::Events(e.into()))?;
        let connections = plans.into_iter().map(Connection::new).collect();
        let mut load = Self { address, events, connections, buffer: vec![0; READ_BYTES] };
        for at in 0..load.connections.len() {
            load.connect(at).map_err(|error| LoadError::Connect(address, error))?;
        }
        Ok(load)
    }

    fn connect(&mut self, at: usize) -> io::Result<()> {
        let connection = &mut self.connections[at];
        connection.connect(self.address)?;
        if let Some(socket) = &connection.socket {
            epoll::add(&self.events, socket, EventData::new_u64(at as u64), EventFlags::IN)?;
        }
        Ok(())
    }

    /// Runs the plans, each from where it stands, and measures.
    pub fn run(&mut self, pace: Pace, until: Until) -> Outcome {
        let mut run = Run::new(pace, until);
        let mut events = Vec::with_capacity(EVENTS_MAX);
        run.idle = (0..self.connections.len()).collect();
        let mut housekeeping = run.begun + HOUSEKEEPING;
        loop {
            let now = Instant::now();
            run.watch_end(now);
            self.dispatch(&mut run, now);
            if run.is_over(now) {
                break;
            }
            if now >= housekeeping {
                housekeeping = now + HOUSEKEEPING;
                self.keep_house(&mut run, now);
            }
            events.clear();
            let wait = run.wait(now);
            // Both ends of a wait that fails (only EINTR can) come back here at once.
            let _ = epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut events), Some(&wait));
            for event in &events {
                let at = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                self.serve(&mut run, at, event.flags);
            }
        }
        self.abandon(&mut run);
        run.finish()
    }

    /// Gives work to the connections that are idle now; one that fails at once has to wait for the next turn.
    fn dispatch(&mut self, run: &mut Run, now: Instant) {
        for _ in 0..run.idle.len() {
            let Some(&at) = run.idle.front() else { return };
            let origin = match &mut run.schedule {
                None if run.stopping => return,
                None => now,
                Some(schedule) => {
                    schedule.release(nanos(now - run.begun));
                    let Some(due) = schedule.take() else { return };
                    run.begun + Duration::from_nanos(due)
                }
            };
            run.idle.pop_front();
            run.in_flight += 1;
            self.send(run, at, origin, now);
        }
    }

    fn send(&mut self, run: &mut Run, at: usize, origin: Instant, now: Instant) {
        if self.connections[at].socket.is_none() && self.connect(at).is_err() {
            run.outcome.errors.connect += 1;
            run.in_flight -= 1; // The connection stays out of `idle` until housekeeping has made it anew.
            return;
        }
        match self.connections[at].send_next(origin, now) {
            Ok(()) => self.watch_writes(at),
            Err(_) => self.lose(run, at, |errors| &mut errors.reset),
        }
    }

    /// Asks epoll for write events exactly while a request is partly written.
    fn watch_writes(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let wants = connection.is_writing();
        if wants == connection.wants_write {
            return;
        }
        if let Some(socket) = &connection.socket {
            let flags = if wants { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            if epoll::modify(&self.events, socket, EventData::new_u64(at as u64), flags).is_ok() {
                connection.wants_write = wants;
            }
        }
    }

    fn serve(&mut self, run: &mut Run, at: usize, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            match self.connections[at].write_on() {
                Ok(()) => self.watch_writes(at),
                Err(_) => return self.lose(run, at, |errors| &mut errors.reset),
            }
        }
        match self.connections[at].read(&mut self.buffer) {
            Arrival::Nothing => {}
            Arrival::Response(response) => self.take_response(run, at, response),
            Arrival::Gone if self.connections[at].flight.is_none() => {
                self.connections[at].disconnect();
            }
            Arrival::Gone => self.lose(run, at, |errors| &mut errors.reset),
            Arrival::Malformed => self.lose(run, at, |errors| &mut errors.malformed),
        }
    }

    fn take_response(&mut self, run: &mut Run, at: usize, response: Response) {
        let now = Instant::now();
        let connection = &mut self.connections[at];
        let Some(flight) = connection.flight.take() else { return };
        if response.close {
            connection.disconnect();
        }
        run.record(&flight, response, now);
        if flight.step.counted {
            run.in_flight -= 1;
            if run.schedule.is_none() && !run.stopping {
                run.in_flight += 1;
                self.send(run, at, now, now);
            } else {
                run.idle.push_back(at);
            }
        } else {
            // The counted request that this one prepares is as late as it was; only the preparation is taken out.
            self.send(run, at, flight.origin + (now - flight.sent), now);
        }
    }

    /// Gives a connection and its request up; the socket is made anew at the next send.
    fn lose(&mut self, run: &mut Run, at: usize, kind: impl Fn(&mut Errors) -> &mut u64) {
        *kind(&mut run.outcome.errors) += 1;
        if self.connections[at].disconnect().is_some() {
            run.in_flight -= 1;
            run.idle.push_back(at);
        }
    }

    fn keep_house(&mut self, run: &mut Run, now: Instant) {
        for at in 0..self.connections.len() {
            let connection = &self.connections[at];
            match &connection.flight {
                Some(flight) if now - flight.sent > REQUEST_TIMEOUT => {
                    self.lose(run, at, |errors| &mut errors.timeout);
                }
                None if connection.socket.is_none() && !run.idle.contains(&at) => {
                    if self.connect(at).is_ok() {
                        run.idle.push_back(at);
                    } else {
                        run.outcome.errors.connect += 1;
                    }
                }
                _ => {}
            }
        }
    }

    /// Ends what a run left in flight.
    fn abandon(&mut self, run: &mut Run) {
        for at in 0..self.connections.len() {
            if self.connections[at].flight.is_some() {
                self.lose(run, at, |errors| &mut errors.timeout);
            }
            if self.connections[at].socket.is_none() {
                let _ = self.connect(at);
            }
        }
    }
}
