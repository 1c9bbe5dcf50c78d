//! Limits: requests in a time, requests at once, and the breaker. Each is a state and the time; none grows under a flood.

mod breaker;
mod concurrency;
mod rate;

pub(crate) use self::breaker::{Circuit, Pass};
pub(crate) use self::concurrency::AtOnce;
pub(crate) use self::rate::InTime;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use baton_catalog::policy::Source;

use crate::request::Request;

/// The number of a request's key. Its hasher is the process's own, so that nobody outside can make two keys meet.
fn number(hasher: &RandomState, source: &Source, request: &Request<'_>) -> u64 {
    match source {
        Source::All => 0,
        Source::Address => match request.client.address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => hasher.hash_one(address.to_bits()),
            // What one client has.
            Some(IpAddr::V6(address)) => hasher.hash_one(address.to_bits() >> 64),
            None => 0,
        },
        // Those without it share one limit.
        source => request.text(source).map_or(0, |text| hasher.hash_one(text.as_ref())),
    }
}
