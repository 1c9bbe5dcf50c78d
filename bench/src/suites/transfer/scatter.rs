//! A hundred calls at once, each with its part of one frozen payload.
//!
//! By a receipt, what travels inside a call or its answer is copied: the answers of [`ANSWER_BYTES`] each are. What is asked is whether
//! parts are, too.

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
/// What each call is answered with, inside the frame.
const ANSWER_BYTES: u64 = 64;
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
    let copied = |hop: &Value| hop["bytes_copied"].as_u64().unwrap_or(u64::MAX);
    let copies = sum(&|hop| Some(u64::from(copied(hop) > ANSWER_BYTES)));
    let answers = sum(&|hop| Some(copied(hop).min(ANSWER_BYTES)));
    for (name, value) in [
        ("calls", there.len() as f64),
        ("crossed_bytes", referenced),
        ("inline_bytes", inline),
        ("copies", copies),
        ("answers_copied_bytes", answers),
        ("crossed_share", referenced / BYTES as f64),
    ] {
        sample.figures.insert(name.to_owned(), value / times.max(1e-9));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hop(copied: u64, (referenced, inline): (u64, u64)) -> Value {
        let carried = json!({"referenced_bytes": referenced, "inline_bytes": inline});
        json!({"node": "b", "copies": u64::from(copied > 0), "bytes_copied": copied, "carried": carried})
    }

    fn counted(hops: Vec<Value>) -> Sample {
        let mut sample = Sample::default();
        count(&json!({ "hops": hops }), &mut sample);
        sample
    }

    #[test]
    fn a_receipt_is_counted_for_each_time_that_the_payload_was_handed_out() {
        let there = hop(ANSWER_BYTES, (PART_BYTES, ANSWER_BYTES));
        let here = json!({"copies": 3, "bytes_copied": 3 * PART_BYTES});
        let figures = counted(std::iter::repeat_n(there, 200).chain([here]).collect()).figures;
        assert_eq!((figures["calls"], figures["copies"], figures["crossed_share"]), (100.0, 0.0, 1.0));
        assert_eq!((figures["inline_bytes"], figures["answers_copied_bytes"]), (6400.0, 6400.0));
    }

    #[test]
    fn a_part_that_was_copied_before_it_went_or_inside_its_call_is_a_copy() {
        let good = hop(ANSWER_BYTES, (PART_BYTES, ANSWER_BYTES));
        let before = hop(PART_BYTES + ANSWER_BYTES, (PART_BYTES, ANSWER_BYTES));
        let inside = hop(4096 + ANSWER_BYTES, (0, 4096 + ANSWER_BYTES));
        let hops = std::iter::repeat_n(good, 98).chain([before, inside]).collect();
        assert_eq!(counted(hops).figures["copies"], 2.0);
        assert_eq!(
            counted(vec![json!({"node": "b"}); 100]).figures["copies"],
            100.0,
            "nothing known is no proof"
        );
    }
}
