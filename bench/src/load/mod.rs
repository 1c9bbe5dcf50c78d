//! An HTTP/1.1 load generator: one thread, one epoll set, pre-built requests, no allocation per request.
//!
//! *Closed loop*: every connection sends its next request as soon as the last one is answered.
//! *Open loop*: requests fall due at a fixed rate and count their latency from then (see [`schedule`]). While the next
//! one is near, the generator spins instead of sleeping: it has a core of its own and must not be late.
//!
//! A [`Plan`] per connection says what to send: a set-up that runs once, then a cycle. Steps that are not counted
//! (something has to lie in the cart before it can be bought) cost the server time and appear in no figure.

mod client;
mod connection;
mod driver;
mod response;
mod run;
pub mod schedule;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

pub use client::{Answer, BODY_BYTES_MAX, Caller, ClientError, get, post, request};
pub use driver::{Load, LoadError, REQUEST_TIMEOUT};
pub use response::{HEAD_BYTES_MAX, Progress, ReadError, Response, ResponseReader};

/// One request and the statuses that are right for it.
#[derive(Debug, Clone)]
pub struct Step {
    /// The bytes of the request.
    pub request: Vec<u8>,
    /// The statuses that count as success.
    pub expect: &'static [u16],
    /// Whether it appears in the figures.
    pub counted: bool,
}

/// What one connection sends.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Sent once, before the cycle.
    pub setup: Vec<Arc<Step>>,
    /// Sent over and over; holds at least one counted step.
    pub cycle: Vec<Arc<Step>>,
}

impl Plan {
    /// The same GET over and over.
    #[must_use]
    pub fn get(address: SocketAddr, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes();
        let step = Arc::new(Step { request, expect: &[200], counted: true });
        Self { setup: Vec::new(), cycle: vec![step] }
    }
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As soon as the connection is free.
    Closed,
    /// At this many requests per second.
    Open(f64),
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time; requests in flight are still awaited.
    Elapsed(Duration),
    /// After this many counted requests (closed loop only).
    Answered(u64),
}

/// What went wrong, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Answers with another status than expected.
    pub status: u64,
    /// Connections that could not be made.
    pub connect: u64,
    /// Connections that ended before their answer.
    pub reset: u64,
    /// Answers that are not HTTP.
    pub malformed: u64,
    /// Requests without an answer in time.
    pub timeout: u64,
    /// Open-loop requests that were never sent, the backlog being full or the run being over.
    pub unsent: u64,
}

impl Errors {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.status + self.connect + self.reset + self.malformed + self.timeout + self.unsent
    }

    /// Adds another run's errors.
    pub fn add(&mut self, other: &Self) {
        self.status += other.status;
        self.connect += other.connect;
        self.reset += other.reset;
        self.malformed += other.malformed;
        self.timeout += other.timeout;
        self.unsent += other.unsent;
    }
}

/// What a run measured.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Latencies of the counted requests, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// Counted requests that were answered as expected.
    pub answered: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Body bytes of the counted answers.
    pub body_bytes: u64,
    /// What went wrong.
    pub errors: Errors,
    /// The last unexpected status, for the message that somebody will want to read.
    pub last_status: Option<u16>,
}

impl Outcome {
    /// Answered requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// A latency quantile in microseconds.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        crate::units::micros(self.latencies.value_at_quantile(quantile))
    }
}
