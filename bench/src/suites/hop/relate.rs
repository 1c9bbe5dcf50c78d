//! What is promised of a hop, and what else is worth a ratio.

use crate::app::{Isolation, Wake};
use crate::report::{Key, Promise, Report, Series};
use crate::suites::Options;

use super::{PAYLOADS, PROCESS, TRUST_APP, TRUST_APP_FRESH, TRUST_BUFFER};

const FIGURE: &str = "p50_us";
/// What a hand-over by the kernel may take of a ping-pong over a Unix socket.
const EBPF_OVER_UDS_MAX: f64 = 1.6;
/// The payload up to which a hand-over may copy.
const COPIED_MAX: u64 = 64 << 10;

pub(super) fn all(options: &Options, series: &Series, report: &mut Report) {
    if options.has(Isolation::Process) {
        processes(series, report);
        by_the_kernel(series, report);
    }
    if options.has(Isolation::Compartment) {
        compartments(series, report);
    }
    if options.has(Isolation::Wasm) {
        modules(series, report);
    }
}

fn processes(series: &Series, report: &mut Report) {
    let baton = |payload| Key::new(Wake::Ring.system(), PROCESS, 1).payload(payload);
    let (small, large) = (baton(64), baton(1 << 20));
    report.ratio("p50_us_baton_1MiB_over_64B", series, FIGURE, [&large, &small], Some(Promise::AtMost(1.2)));
    let over = [&small, &small.of("futex")];
    report.ratio("p50_us_baton_over_futex_64B", series, FIGURE, over, Some(Promise::AtMost(1.3)));
    for (name, key, bound) in [("64B", &small, 5.0), ("1MiB", &large, 100.0)] {
        let promise = Some(Promise::AtLeast(bound));
        let name = |system: &str| format!("p50_us_{system}_over_baton_{name}");
        report.ratio(&name("grpc"), series, FIGURE, [&key.of("grpc"), key], promise);
        report.ratio(&name("uds"), series, FIGURE, [&key.of("uds"), key], None);
    }
}

fn by_the_kernel(series: &Series, report: &mut Report) {
    let ebpf = |payload| Key::new(Wake::Ebpf.system(), PROCESS, 1).payload(payload);
    let (small, largest) = (ebpf(64), ebpf(64 << 20));
    let over_uds = Some(Promise::AtMost(EBPF_OVER_UDS_MAX));
    report.ratio("p50_us_ebpf_over_uds_64B", series, FIGURE, [&small, &small.of("uds")], over_uds);
    // The socket carries 64 B in both: what is handed over is not to matter.
    report.ratio("p50_us_ebpf_64MiB_over_uds_64B", series, FIGURE, [&largest, &small.of("uds")], over_uds);
    report.ratio(
        "p50_us_ebpf_64MiB_over_64B",
        series,
        FIGURE,
        [&largest, &small],
        Some(Promise::AtMost(1.2)),
    );
    for (name, other) in [("ring", Wake::Ring.system()), ("broker", "broker")] {
        for (size, key) in [("64B", &small), ("64MiB", &largest)] {
            for figure in [FIGURE, "cpu_us_per_req", "switches_per_req"] {
                let over = [key, &key.of(other)];
                report.ratio(&format!("{figure}_ebpf_over_{name}_{size}"), series, figure, over, None);
            }
        }
    }
}

fn compartments(series: &Series, report: &mut Report) {
    let compartment = |case, payload| Key::new(Isolation::Compartment.system(), case, 1).payload(payload);
    for payload in PAYLOADS {
        let (app, buffer) = (compartment(TRUST_APP, payload), compartment(TRUST_BUFFER, payload));
        let size = size(payload);
        let promise = Some(Promise::AtMost(0.3));
        report.figure(&format!("p50_us_trust_app_{size}"), series, FIGURE, &app, promise);
        let promise = (payload <= COPIED_MAX).then_some(Promise::AtMost(3.0));
        report.figure(&format!("p50_us_trust_buffer_{size}"), series, FIGURE, &buffer, promise);
        // A call costs more than copying a few bytes does: the comparison begins where a copy is the larger part.
        let promise = (payload > COPIED_MAX).then_some(Promise::AtMost(1.0));
        let over = [&buffer, &Key { case: "hop".into(), ..buffer.of("memcpy") }];
        if payload >= COPIED_MAX {
            report.ratio(&format!("p50_us_trust_buffer_over_memcpy_{size}"), series, FIGURE, over, promise);
        }
    }
    for (name, case) in [("app", TRUST_APP), ("buffer", TRUST_BUFFER)] {
        let key = compartment(case, 64);
        let other = |system: &str| Key { case: PROCESS.into(), ..key.of(system) };
        for (system, short, promise) in [
            (Wake::Ring.system(), "baton", Some(Promise::AtLeast(10.0))),
            ("futex", "futex", None),
            ("grpc", "grpc", None),
        ] {
            let name = format!("p50_us_{short}_over_trust_{name}_64B");
            report.ratio(&name, series, FIGURE, [&other(system), &key], promise);
        }
    }
}

fn modules(series: &Series, report: &mut Report) {
    for payload in PAYLOADS {
        for (name, case) in [("app", TRUST_APP), ("buffer", TRUST_BUFFER), ("app_fresh", TRUST_APP_FRESH)] {
            let key = Key::new(Isolation::Wasm.system(), case, 1).payload(payload);
            let name = format!("wasm_trust_{name}_{}", size(payload));
            report.figure(&format!("p50_us_{name}"), series, FIGURE, &key, None);
        }
        for (name, case) in [("app", TRUST_APP), ("buffer", TRUST_BUFFER)] {
            let key = Key::new(Isolation::Wasm.system(), case, 1).payload(payload);
            let over = [&key, &key.of(Isolation::Compartment.system())];
            let name = format!("p50_us_wasm_over_compartment_trust_{name}_{}", size(payload));
            report.ratio(&name, series, FIGURE, over, None);
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 => format!("{}MiB", b >> 20),
        b if b >= 1 << 10 => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
    }
}
