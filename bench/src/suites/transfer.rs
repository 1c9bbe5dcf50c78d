//! `transfer`: payloads from a function on one node to a function on another, against what is done without Baton.
//!
//! Two machines of one network, namespaces with a core each: the caller's node, the producers of the yardsticks and the client of
//! `iperf3` on the first; the callee's node, consumers, stores and the server on the second, where a store is nearest to who
//! gets. Every time is from before the call, or the put, to the answer that the last byte was touched; `touch_us` is up to the touch
//! itself, by the clock that both machines share. The payloads of Baton are moved and made anew for each call, outside of the time.
//!
//! Then the boutique over both nodes beside the boutique on one: [`split`].

mod cluster;
mod place;
mod relate;
mod rivals;
mod scatter;
mod split;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::app::App;
use crate::proc;
use crate::report::{Key, Report, Sample, Series};
use crate::systems;
use crate::units::floor;
use crate::yardstick::RoundTrips;

use super::sampling::{Timing, sample_of_trips};
use super::{Options, SuiteError, or_note, say};
use cluster::{Cluster, Terms};
use place::Place;
use rivals::{Rival, Stream};

const APP: &str = "bench/apps/transfer";
const PAYLOADS: [u64; 5] = [4 << 10, 64 << 10, 1 << 20, 8 << 20, 64 << 20];
/// The payload that bandwidths are compared at.
const LARGEST: u64 = PAYLOADS[4];
/// The rows of Baton.
const BATON: &str = "baton";
const PLAIN: &str = "plaintext";
const TLS: &str = "tls";
const ONE_NODE: &str = "one-node";
const HTTP: &str = "http";
/// What one run may take; the namespaces are gone then at the latest.
const LIMIT: Duration = Duration::from_secs(40 * 60);
const QUICK_TOTAL: Duration = Duration::from_secs(12);
/// Round trips that find out how many fit into a sample.
const PROBES: u64 = 5;
const ITERATIONS_MAX: u64 = 20_000;
/// How long calls of one sample may take with the making of their payloads.
const WITHIN: Duration = Duration::from_secs(3);
/// Bytes that `iperf3` moves in a sample.
const STREAM_BYTES: u64 = 4 << 30;
const QUICK_STREAM_BYTES: u64 = 1 << 30;
/// How long is looked at what else the machine does.
const BUSY_WINDOW: Duration = Duration::from_millis(300);

/// One way of a payload from here to there.
struct Way<'a> {
    system: &'static str,
    case: &'static str,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// A call of this function.
    Call(&'a Cluster, &'static str),
    /// A POST to the second node's gateway.
    Post(&'a Cluster),
    Rival(&'a Rival),
}

/// Runs the suite.
pub fn run(options: &Options) -> Result<Report, SuiteError> {
    let mut report = Report::new("transfer", options.quick, options.rounds);
    let app = systems::build(&options.setup, &options.directory(APP)?)?;
    let shop = split::build(options)?;
    let place = Place::make(&options.setup, LIMIT)?;
    let _nats = cluster::nats(&place)?;
    let mut series = Series::default();
    let mut busy = Vec::new();
    calls(options, &place, &app, (&mut series, &mut busy), &mut report)?;
    split::measure(options, &place, &shop, (&mut series, &mut busy), &mut report)?;
    report.take_rows(&series);
    relate::all(&series, &mut report);
    note_others(busy, &mut report);
    Ok(report)
}

/// Says how much of the machine others had: figures of a busy one are upper bounds, ratios hold.
fn note_others(busy: Vec<f64>, report: &mut Report) {
    let least = busy.iter().copied().fold(1.0, f64::min);
    let greatest = busy.iter().copied().fold(0.0, f64::max);
    let percent = |share: f64| floor(share * 100.0);
    report.notes.push(format!(
        "between rounds, with nothing of this measured, the machine was {} to {} % busy",
        percent(least),
        percent(greatest)
    ));
}

fn terms(name: &'static str) -> Terms {
    Terms { name, tls: false, receipts: false, pinned: true }
}

fn calls(
    options: &Options,
    place: &Place,
    app: &App,
    (series, busy): (&mut Series, &mut Vec<f64>),
    report: &mut Report,
) -> Result<(), SuiteError> {
    let start = |terms: Terms| {
        say(format_args!("starting the nodes of {}", terms.name));
        Cluster::start(&options.setup, place, terms, app, "/?payload=65537&iterations=1")
    };
    let plain = start(terms(PLAIN))?;
    let secured = start(Terms { tls: true, ..terms(TLS) })?;
    let counted = start(Terms { receipts: true, ..terms(scatter::CASE) })?;
    let rivals = rivals::start(place, &mut report.notes)?;
    let stream = or_note(Stream::start(place), "iperf3", &mut report.notes)?;
    let way = |system, case, kind| Way { system, case, kind };
    let mut ways = vec![
        way(BATON, PLAIN, Kind::Call(&plain, "callee")),
        way(BATON, TLS, Kind::Call(&secured, "callee")),
        way(BATON, ONE_NODE, Kind::Call(&plain, "nearby")),
        way(BATON, HTTP, Kind::Post(&plain)),
    ];
    ways.extend(rivals.iter().map(|rival| way(rival.system, rival.case, Kind::Rival(rival))));
    let samples = options.rounds * (PAYLOADS.len() * ways.len() + 1);
    let timing = Timing::new(options, samples, QUICK_TOTAL);
    let mut expected = BTreeMap::new();
    for round in 1..=options.rounds {
        busy.push(proc::busy_share(BUSY_WINDOW));
        for payload in PAYLOADS {
            if let Some(stream) = stream.as_ref().filter(|_| payload == LARGEST) {
                series.add(stream_key(), stream_sample(options, place, stream)?);
            }
            for way in ways.iter().filter(|way| way.case != ONE_NODE || payload == PAYLOADS[0]) {
                say(format_args!("round {round}: {} {} at {payload} bytes", way.system, way.case));
                let key = Key::new(way.system, way.case, 1).payload(payload);
                let sample =
                    way.sample(place, (payload, timing), expected.entry(key.clone()).or_default())?;
                series.add(key, sample);
            }
        }
        scatter::sample(options, place, &counted, timing, series)?;
    }
    Ok(())
}

fn stream_key() -> Key {
    Key::new("iperf3", "stream", 1).payload(LARGEST)
}

fn stream_sample(options: &Options, place: &Place, stream: &Stream) -> Result<Sample, SuiteError> {
    let bytes = if options.quick { QUICK_STREAM_BYTES } else { STREAM_BYTES };
    let mib_per_s = stream.mib_per_s(place, bytes)?;
    Ok(Sample { figures: [("mib_per_s".to_owned(), mib_per_s)].into(), ..Sample::default() })
}

/// What was measured, and how many MiB a second that is for who waits for the last byte.
fn sample_of(trips: RoundTrips, payload: u64) -> Sample {
    let mut sample = sample_of_trips(trips);
    let mib = payload as f64 / f64::from(1 << 20);
    let seconds = trips.touch_ns.unwrap_or(trips.p50_ns) / 1e9;
    sample.figures.insert("mib_per_s".to_owned(), mib / seconds.max(1e-9));
    sample
}

impl Way<'_> {
    /// One sample; `expected` is how long a round trip took in the last one, 0 before the first.
    fn sample(
        &self,
        place: &Place,
        (payload, timing): (u64, Timing),
        expected: &mut f64,
    ) -> Result<Sample, SuiteError> {
        if *expected == 0.0 {
            *expected = self.trips(place, payload, PROBES)?.p50_ns;
        }
        timing.settle();
        let budget = timing.measured.min(Duration::from_secs(1)).as_secs_f64() * 1e9;
        let iterations = floor(budget / expected.max(1.0)).clamp(PROBES, ITERATIONS_MAX);
        let trips = self.trips(place, payload, iterations)?;
        *expected = trips.p50_ns;
        Ok(sample_of(trips, payload))
    }

    fn trips(&self, place: &Place, payload: u64, iterations: u64) -> Result<RoundTrips, SuiteError> {
        match &self.kind {
            Kind::Rival(rival) => rival.trips(place, payload, iterations),
            Kind::Post(cluster) => rivals::post(place, cluster.second, payload, iterations),
            Kind::Call(cluster, to) => {
                let within = WITHIN.as_millis();
                let path = format!("/?payload={payload}&iterations={iterations}&to={to}&within={within}");
                trips(cluster, place, &path)
            }
        }
    }
}

/// What the caller says of calls that it made.
fn trips(cluster: &Cluster, place: &Place, path: &str) -> Result<RoundTrips, SuiteError> {
    let (status, body) = cluster.ask(place, path)??;
    let parsed = serde_json::from_slice(&body).ok().filter(|_| status == 200);
    parsed.ok_or_else(|| SuiteError::Answer {
        system: cluster.fleet.system.clone(),
        problem: format!("{status} {}", String::from_utf8_lossy(&body[..body.len().min(300)])),
    })
}
