//! The ratios and what is promised of them.

use super::{BATON, HTTP, LARGEST, ONE_NODE, PAYLOADS, PLAIN, TLS, scatter, split, stream_key};
use crate::report::{Key, Promise, Report, Series};

const FIGURE: &str = "p50_us";
/// From here on a store has to be beaten by what is promised.
const LARGE: u64 = 1 << 20;

pub(super) fn all(series: &Series, report: &mut Report) {
    let baton = |case, payload| Key::new(BATON, case, 1).payload(payload);
    for payload in PAYLOADS {
        let size = size(payload);
        let key = baton(PLAIN, payload);
        for (system, least) in [("redis", 2.0), ("s3", 5.0), ("nginx", 2.0)] {
            let store = Key { case: "put-get".into(), ..key.of(system) };
            let promise = (payload >= LARGE).then_some(Promise::AtLeast(least));
            report.ratio(
                &format!("p50_us_{system}_over_baton_{size}"),
                series,
                FIGURE,
                [&store, &key],
                promise,
            );
        }
        let over = [&baton(HTTP, payload), &key];
        report.ratio(&format!("p50_us_http_over_baton_{size}"), series, FIGURE, over, None);
        let over = [&baton(TLS, payload), &key];
        report.ratio(&format!("p50_us_tls_over_plaintext_{size}"), series, FIGURE, over, None);
    }
    for (case, promise) in [(PLAIN, Some(Promise::AtLeast(0.85))), (TLS, None)] {
        let name = format!("mib_per_s_{case}_over_iperf3_{}", size(LARGEST));
        report.ratio(&name, series, "mib_per_s", [&baton(case, LARGEST), &stream_key()], promise);
    }
    // iperf3 sends the same few pages again and again; a payload comes from memory and goes there, which a bare connection shows.
    let bare = Key { system: "tcp".into(), case: "ping-pong".into(), ..baton(PLAIN, LARGEST) };
    let name = |name: &str| format!("mib_per_s_{name}_{}", size(LARGEST));
    report.ratio(&name("tcp_over_iperf3"), series, "mib_per_s", [&bare, &stream_key()], None);
    report.ratio(&name("plaintext_over_tcp"), series, "mib_per_s", [&baton(PLAIN, LARGEST), &bare], None);
    wire(series, report);
    let all = scatter::key();
    report.figure("scatter_crossed_share", series, "crossed_share", &all, Some(Promise::AtMost(1.0)));
    report.figure("scatter_copies", series, "copies", &all, Some(Promise::AtMost(0.0)));
    report.ratio("mib_per_s_scatter_over_iperf3", series, "mib_per_s", [&all, &stream_key()], None);
    split::relate(series, report);
}

/// What the way to another node adds to a call, over what a message there and back takes by itself.
fn wire(series: &Series, report: &mut Report) {
    let small = Key::new(BATON, PLAIN, 1).payload(PAYLOADS[0]);
    let hop = Key { case: ONE_NODE.into(), ..small.clone() };
    let ping = Key { system: "tcp".into(), case: "ping-pong".into(), ..small.clone() };
    let size = size(PAYLOADS[0]);
    report.difference(&format!("p50_us_baton_minus_one_node_{size}"), series, FIGURE, [&small, &hop], None);
    report.ratio(&format!("p50_us_baton_over_tcp_{size}"), series, FIGURE, [&small, &ping], None);
    let of = |key| series.figure(key, FIGURE).unwrap_or_default();
    let (calls, hops, pings) = (of(&small), of(&hop), of(&ping));
    let rounds = calls.iter().zip(&hops).zip(&pings).map(|((call, hop), ping)| (call - hop) / ping);
    let name = format!("p50_us_baton_minus_one_node_over_tcp_{size}");
    report.of_rounds(&name, &rounds.collect::<Vec<f64>>(), Some(Promise::AtMost(1.5)));
}

fn size(bytes: u64) -> String {
    if bytes >= LARGE { format!("{}MiB", bytes >> 20) } else { format!("{}KiB", bytes >> 10) }
}
