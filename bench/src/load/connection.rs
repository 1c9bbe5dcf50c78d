//! One connection of the load generator: its socket, its place in the plan, the request in flight.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use super::response::{Progress, Response, ResponseReader};
use super::{Plan, Step};

/// What reading from a connection gave.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Nothing complete yet.
    Nothing,
    /// A whole response.
    Response(Response),
    /// The peer closed or reset the connection.
    Gone,
    /// The bytes are not a response.
    Malformed,
}

/// A request in flight.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) step: Arc<Step>,
    /// What the latency counts from.
    pub(super) origin: Instant,
    pub(super) sent: Instant,
    written: usize,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Option<TcpStream>,
    pub(super) flight: Option<Flight>,
    /// Whether the socket is registered for writing too.
    pub(super) wants_write: bool,
    reader: ResponseReader,
    plan: Plan,
    setup_done: usize,
    cycle_at: usize,
}

impl Connection {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            socket: None,
            flight: None,
            wants_write: false,
            reader: ResponseReader::default(),
            plan,
            setup_done: 0,
            cycle_at: 0,
        }
    }

    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<()> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        self.socket = Some(socket);
        self.reader = ResponseReader::default();
        self.wants_write = false;
        Ok(())
    }

    /// Closes the socket; returns the request that was in flight.
    pub(super) fn disconnect(&mut self) -> Option<Flight> {
        self.socket = None;
        self.flight.take()
    }

    fn next_step(&mut self) -> Arc<Step> {
        if let Some(step) = self.plan.setup.get(self.setup_done) {
            self.setup_done += 1;
            return Arc::clone(step);
        }
        let step = Arc::clone(&self.plan.cycle[self.cycle_at]);
        self.cycle_at = (self.cycle_at + 1) % self.plan.cycle.len();
        step
    }

    /// Begins the plan's next request.
    pub(super) fn send_next(&mut self, origin: Instant, now: Instant) -> io::Result<()> {
        let step = self.next_step();
        self.flight = Some(Flight { step, origin, sent: now, written: 0 });
        self.write_on()
    }

    /// Writes what is left of the request in flight, as far as the socket takes it.
    pub(super) fn write_on(&mut self) -> io::Result<()> {
        let (Some(socket), Some(flight)) = (&mut self.socket, &mut self.flight) else { return Ok(()) };
        while let Some(rest) = flight.step.request.get(flight.written..).filter(|rest| !rest.is_empty()) {
            match socket.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => flight.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether part of the request waits for the socket.
    pub(super) fn is_writing(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.written < flight.step.request.len())
    }

    /// Reads once; `buffer` is shared by all connections and holds nothing between calls.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Arrival {
        let Some(socket) = &mut self.socket else { return Arrival::Nothing };
        let count = match socket.read(buffer) {
            Ok(0) => return Arrival::Gone,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Arrival::Nothing;
            }
            Err(_) => return Arrival::Gone,
        };
        match self.reader.feed(&buffer[..count], &mut |_| {}) {
            Ok(Progress::More) => Arrival::Nothing,
            // One request at a time: bytes beyond its response, or with none in flight, belong to nothing.
            Ok(Progress::Done { used, response }) if used == count && self.flight.is_some() => {
                Arrival::Response(response)
            }
            Ok(Progress::Done { .. }) => Arrival::Malformed,
            Err(_) => Arrival::Malformed,
        }
    }
}
