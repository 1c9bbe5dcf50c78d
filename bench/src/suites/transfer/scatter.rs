//! A hundred calls at once, each with its part of one frozen payload.

use serde_json::Value;

use super::cluster::Cluster;
use super::place::Place;
use super::{BATON, sample_of, trips};
use crate::report::{Key, Sample, Series};
use crate::suites::sampling::Timing;
use crate::suites::{Options, SuiteError, say};

pub(super) const CASE: &str = "scatter";
const PARTS: u32 = 100;
const PART_BYTES: u64 = 1 << 20;
const BYTES: u64 = PARTS as u64 * PART_BYTES;
const ITERATIONS: u64 = 10;
const QUICK_ITERATIONS: u64 = 3;

pub(super) fn key() -> Key {
    Key::new(BATON, CASE, PARTS).payload(BYTES)
}

/// One sample: times of many, the receipt of one.
pub(super) fn sample(
    options: &Options,
    place: &Place,
    cluster: &Cluster,
    timing: Timing,
    series: &mut Series,
) -> Result<(), SuiteError> {
    say("scattering");
    timing.settle();
    let path = |iterations| format!("/scatter?payload={BYTES}&parts={PARTS}&iterations={iterations}");
    let iterations = if options.quick { QUICK_ITERATIONS } else { ITERATIONS };
    let mut sample = sample_of(trips(cluster, place, &path(iterations))?, BYTES);
    // One that is counted and one before it, which is not timed: a receipt has room for their calls.
    trips(cluster, place, &path(1))?;
    count(&cluster.last_receipt(place)?, &mut sample);
    series.add(key(), sample);
    Ok(())
}

/// What the receipt says of calls that went to the other node, for each time that the whole payload was handed out.
fn count(receipt: &Value, sample: &mut Sample) {
    let hops = receipt["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    let there: Vec<&Value> = hops.iter().filter(|hop| hop["node"].is_string()).collect();
    let sum = |of: &dyn Fn(&Value) -> Option<u64>| there.iter().filter_map(|hop| of(hop)).sum::<u64>() as f64;
    let times = there.len() as f64 / f64::from(PARTS);
    let referenced = sum(&|hop| hop["carried"]["referenced_bytes"].as_u64());
    let inline = sum(&|hop| hop["carried"]["inline_bytes"].as_u64());
    let copies = sum(&|hop| hop["copies"].as_u64());
    for (name, value) in [
        ("calls", there.len() as f64),
        ("crossed_bytes", referenced),
        ("inline_bytes", inline),
        ("copies", copies),
        ("crossed_share", referenced / BYTES as f64),
    ] {
        sample.figures.insert(name.to_owned(), value / times.max(1e-9));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_receipt_is_counted_for_each_time_that_the_payload_was_handed_out() {
        let there = json!({"node": "b", "copies": 0, "carried": {"referenced_bytes": PART_BYTES, "inline_bytes": 64}});
        let here = json!({"copies": 3});
        let hops: Vec<Value> = std::iter::repeat_n(there, 200).chain([here]).collect();
        let mut sample = Sample::default();
        count(&json!({ "hops": hops }), &mut sample);
        let figures = &sample.figures;
        assert_eq!((figures["calls"], figures["copies"], figures["crossed_share"]), (100.0, 0.0, 1.0));
        assert_eq!(figures["inline_bytes"], 6400.0);
    }
}
