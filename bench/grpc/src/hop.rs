//! One hop by gRPC: a request of so many bytes, an answer of 64, one after the other over one connection.

use std::time::Instant;

use bytes::Bytes;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

use crate::messages::Payload;
use crate::proto::hop_client::HopClient;
use crate::proto::hop_server::{Hop, HopServer};

/// Largest message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// HTTP/2 flow-control window of both sides: large, so that large payloads do not wait for window updates.
pub(crate) const WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// Largest HTTP/2 frame of both sides: fewer frames for large payloads.
pub(crate) const FRAME_BYTES: u32 = 1024 * 1024;
/// What every request is answered with.
const ANSWER: Bytes = Bytes::from_static(&[0; 64]);
/// One warm-up round trip for so many measured ones, ten at least.
const WARM_UP_SHARE: usize = 10;

/// Answers 64 bytes to anything.
#[derive(Debug, Default)]
pub(crate) struct Answerer;

#[tonic::async_trait]
impl Hop for Answerer {
    async fn hop(&self, _: Request<Payload>) -> Result<Response<Payload>, Status> {
        Ok(Response::new(Payload { bytes: ANSWER }))
    }
}

/// The service with its limits.
pub(crate) fn service() -> HopServer<Answerer> {
    HopServer::new(Answerer).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Makes the round trips; prints one JSON line.
pub(crate) async fn client(
    peer: &str,
    payload: usize,
    iterations: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = Endpoint::from_shared(format!("http://{peer}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let channel = endpoint.connect().await?;
    let mut client = HopClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let bytes = Bytes::from(vec![0x5a; payload]);
    let mut trip = async || -> Result<u64, Status> {
        let started = Instant::now();
        let answer = client.hop(Payload { bytes: bytes.clone() }).await?;
        let elapsed = started.elapsed();
        debug_assert_eq!(answer.get_ref().bytes.len(), 64);
        Ok(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    };
    for _ in 0..(iterations / WARM_UP_SHARE).max(10) {
        trip().await?;
    }
    let mut nanos = Vec::with_capacity(iterations.max(1));
    let before = Used::so_far();
    for _ in 0..iterations.max(1) {
        nanos.push(trip().await?);
    }
    let used = Used::so_far().since(before, nanos.len());
    println!("{}", summary(payload, &mut nanos, used));
    Ok(())
}

/// What this process, of one thread, has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    cpu_ns: u64,
    switches: u64,
}

impl Used {
    pub(crate) fn so_far() -> Self {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/thread-self/{file}")).unwrap_or_default();
        let run_time = read("schedstat").split_ascii_whitespace().next().and_then(|ns| ns.parse().ok());
        let status = read("status");
        let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
        let switches = counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum();
        Self { cpu_ns: run_time.unwrap_or(0), switches }
    }

    /// Nanoseconds and context switches of each of so many round trips.
    pub(crate) fn since(self, before: Self, count: usize) -> [f64; 2] {
        let each = |now: u64, then: u64| now.saturating_sub(then) as f64 / count.max(1) as f64;
        [each(self.cpu_ns, before.cpu_ns), each(self.switches, before.switches)]
    }
}

/// What the measured round trips amount to.
pub(crate) fn summary(payload: usize, nanos: &mut [u64], [cpu_ns, switches]: [f64; 2]) -> serde_json::Value {
    nanos.sort_unstable();
    let at = |percent: usize| nanos.get(nanos.len() * percent / 100).or(nanos.last()).copied().unwrap_or(0);
    let sum: u64 = nanos.iter().sum();
    let mean = sum / u64::try_from(nanos.len().max(1)).unwrap_or(1);
    serde_json::json!({
        "payload_bytes": payload, "iterations": nanos.len(),
        "p50_ns": at(50), "p95_ns": at(95), "p99_ns": at(99), "mean_ns": mean,
        "cpu_ns": cpu_ns, "switches": switches,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_trips() {
        let mut nanos: Vec<u64> = (1..=200).rev().collect();
        let line = summary(64, &mut nanos, [1500.0, 2.0]);
        assert_eq!(
            (&line["p50_ns"], &line["p99_ns"], &line["mean_ns"]),
            (&101.into(), &199.into(), &100.into())
        );
    }
}
