//! The floor under a hop: two processes that do nothing but wake each other.
//!
//! * `futex`: one shared word each way, no payload;
//! * `uds`: a Unix stream socket, N bytes there, 64 bytes back;
//! * `broker`: a third process between two Unix sockets, which passes descriptors; the payload stays where it is;
//! * `memcpy`: N bytes copied once, from warm memory to warm memory, in one process.
//!
//! The caller's process starts its peer, which inherits its placement, runs the round trips one after the other, and
//! prints one line of JSON.

mod broker;
mod futex;
mod memcpy;
mod sys;
mod uds;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::proc;
use crate::units::nanos;

/// The length of a reply.
pub const REPLY_BYTES: usize = 64;
/// Round trips before the measured ones.
const WARM_UP_MAX: u64 = 200;
/// The most round trips whose times are kept.
pub const ITERATIONS_MAX: u64 = 2_000_000;

/// Why a yardstick failed.
#[derive(Debug)]
pub enum YardstickError {
    /// The peer could not be started.
    Peer(io::Error),
    /// The memory or the socket between the two failed.
    Channel(io::Error),
    /// The peer did not answer in time.
    Silent,
}

impl fmt::Display for YardstickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => write!(f, "the peer does not start: {error}"),
            Self::Channel(error) => write!(f, "the channel to the peer failed: {error}"),
            Self::Silent => f.write_str("the peer does not answer"),
        }
    }
}

impl std::error::Error for YardstickError {}

/// The times of a run of round trips; also what the `hop` app and the gRPC client print.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// The median.
    pub p50_ns: f64,
    /// The 95th percentile.
    pub p95_ns: f64,
    /// The 99th percentile.
    pub p99_ns: f64,
    /// The mean.
    pub mean_ns: f64,
    /// The least, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ns: Option<f64>,
    /// The median time to the first touch of the payload's last byte, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch_ns: Option<f64>,
    /// Processor time of both sides per round trip, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<f64>,
    /// Context switches of both sides per round trip, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<f64>,
}

impl RoundTrips {
    /// Sorts times and takes their quantiles; `None` of nothing.
    #[must_use]
    pub fn of(mut times: Vec<u64>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |percent: usize| times.get(last * percent / 100).map(|&ns| ns as f64);
        Some(Self {
            p50_ns: at(50)?,
            p95_ns: at(95)?,
            p99_ns: at(99)?,
            mean_ns: times.iter().sum::<u64>() as f64 / times.len() as f64,
            min_ns: at(0),
            touch_ns: None,
            cpu_ns: None,
            switches: None,
        })
    }

    /// Times of batches of `count` as times of one.
    fn divided_by(self, count: u64) -> Self {
        let one = |ns: f64| ns / count as f64;
        Self {
            p50_ns: one(self.p50_ns),
            p95_ns: one(self.p95_ns),
            p99_ns: one(self.p99_ns),
            mean_ns: one(self.mean_ns),
            min_ns: self.min_ns.map(one),
            touch_ns: self.touch_ns.map(one),
            cpu_ns: self.cpu_ns,
            switches: self.switches,
        }
    }
}

/// Runs the caller's side of a futex ping-pong.
pub fn futex(iterations: u64) -> Result<RoundTrips, YardstickError> {
    futex::call(iterations)
}

/// Runs the caller's side of a Unix socket exchange.
pub fn uds(payload: usize, iterations: u64) -> Result<RoundTrips, YardstickError> {
    uds::call(payload, iterations)
}

/// Runs the caller's side of a hand-over by a third process.
pub fn broker(payload: usize, iterations: u64) -> Result<RoundTrips, YardstickError> {
    broker::call(payload, iterations)
}

/// Copies a payload over and over, `batch` copies between two looks at the clock.
pub fn memcpy(payload: usize, iterations: u64, batch: u64) -> Result<RoundTrips, YardstickError> {
    memcpy::run(payload, iterations, batch)
}

/// The other sides, on what they got as standard input.
pub fn peer(kind: &str, payload: usize) -> Result<(), YardstickError> {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    match kind {
        "futex" => futex::answer(),
        "broker" => broker::pass_on(payload),
        "broker-callee" => broker::answer(),
        _ => uds::answer(payload),
    }
}

/// Times `trip` after a warm-up, with the processor time of this process and its peer.
fn measure(
    iterations: u64,
    trip: impl FnMut() -> Result<(), YardstickError>,
) -> Result<RoundTrips, YardstickError> {
    measure_batches(iterations, 1, trip)
}

/// Times batches of `trip`; a time is that of one trip on average.
fn measure_batches(
    iterations: u64,
    batch: u64,
    mut trip: impl FnMut() -> Result<(), YardstickError>,
) -> Result<RoundTrips, YardstickError> {
    let batch = batch.max(1);
    let batches = (iterations / batch).clamp(1, ITERATIONS_MAX / batch);
    let iterations = batches * batch;
    for _ in 0..(iterations / 10).clamp(1, WARM_UP_MAX) {
        trip()?;
    }
    let mut times = Vec::with_capacity(usize::try_from(batches).unwrap_or(0));
    let usage = || proc::usage(std::process::id()).unwrap_or_default();
    let before = usage();
    for _ in 0..batches {
        let begun = Instant::now();
        for _ in 0..batch {
            trip()?;
        }
        times.push(nanos(begun.elapsed()));
    }
    let after = usage();
    let used = after.cpu.saturating_sub(before.cpu);
    let switches = after.switches.saturating_sub(before.switches);
    let mut trips = RoundTrips::of(times).ok_or(YardstickError::Silent)?.divided_by(batch);
    trips.cpu_ns = Some(nanos(used) as f64 / iterations as f64);
    trips.switches = Some(switches as f64 / iterations as f64);
    Ok(trips)
}

/// Starts this program again as the peer, with one end of the channel as its standard input.
fn spawn_peer(kind: &str, payload: usize, channel: OwnedFd) -> Result<Child, YardstickError> {
    spawn_between(kind, payload, channel, Stdio::null())
}

/// The same with another channel as its standard output.
fn spawn_between(
    kind: &str,
    payload: usize,
    channel: OwnedFd,
    other: impl Into<Stdio>,
) -> Result<Child, YardstickError> {
    let program = std::env::current_exe().map_err(YardstickError::Peer)?;
    Command::new(program)
        .args(["yardstick", "peer", kind, "--payload", &payload.to_string()])
        .stdin(channel)
        .stdout(other)
        .spawn()
        .map_err(YardstickError::Peer)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn quantiles_are_taken_from_sorted_times() {
        let trips = RoundTrips::of((1..=101).rev().collect()).unwrap();
        assert_eq!((trips.p50_ns, trips.p95_ns, trips.p99_ns, trips.min_ns), (51.0, 96.0, 100.0, Some(1.0)));
        assert_eq!(trips.mean_ns, 51.0);
        assert!(RoundTrips::of(Vec::new()).is_none());
    }

    #[test]
    fn measuring_counts_iterations_and_not_the_warm_up() {
        let mut trips = 0;
        measure(50, || {
            trips += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(trips, 55);
    }

    #[test]
    fn batches_are_divided_among_their_trips() {
        let mut trips = 0;
        let times = measure_batches(100, 10, || {
            trips += 1;
            std::thread::sleep(Duration::from_micros(100));
            Ok(())
        })
        .unwrap();
        assert_eq!(trips, 110);
        assert!((100_000.0..900_000.0).contains(&times.p50_ns), "{times:?}");
    }
}
