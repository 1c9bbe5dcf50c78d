//! Nodes that are killed while a call between them is at one point or another: its body on its way in, the call on the wire, the
//! payload half pulled, the answer half pulled back.

use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::members::{SOON, all_at_rest, network_of, payload};
use baton_e2e::{App, Node, need_sandbox, wait_until};

/// Points of the call at which a node dies, one node each.
const POINTS: [&str; 6] = ["p0", "p1", "p2", "p3", "p4", "p5"];
/// Pulled in many frames, there and back.
const PAYLOAD_BYTES: usize = 24 << 20;

/// Node `a`, and one more for each point.
fn names() -> Vec<&'static str> {
    std::iter::once("a").chain(POINTS).collect()
}

/// For each point a function on `from(point)` that hands its payload to one on `to(point)`.
fn pairs(app: App, from: impl Fn(&str) -> String, to: impl Fn(&str) -> String) -> App {
    POINTS.iter().fold(app.pool("256MiB"), |app, point| {
        let (caller, callee) = (format!("from-{point}"), format!("to-{point}"));
        let calls = format!(
            "calls = [\"{callee}\"]\nenv = {{ NEXT = \"{callee}\" }}\nnodes = [\"{}\"]\ntimeout = \"10s\"",
            from(point)
        );
        app.function(&caller, "relay", &calls).function(
            &callee,
            "last",
            &format!("nodes = [\"{}\"]\ntimeout = \"10s\"", to(point)),
        )
    })
}

/// How long a call of the point's pair takes, its memory warm.
fn duration_of(node: &Node, target: &str, sent: &[u8]) -> Duration {
    assert_eq!(node.post(target, sent).body, sent);
    let began = Instant::now();
    assert_eq!(node.post(target, sent).body, sent);
    began.elapsed()
}

/// The time from the start of a call of length `whole` to the middle of its part number `point`.
fn at(whole: Duration, point: usize) -> Duration {
    whole.mul_f64((point as f64 + 0.5) / POINTS.len() as f64)
}

#[test]
fn receivers_that_die_at_any_point_cost_their_callers_an_error_and_nothing_else() {
    need_sandbox!();
    let one = |_: &str| "a".to_owned();
    let Some((_net, _nats, mut nodes)) =
        network_of(&names(), "receivers", |app| pairs(app, one, str::to_owned))
    else {
        return;
    };
    let sent = payload(PAYLOAD_BYTES);
    let mut failed = 0;
    for (number, point) in POINTS.iter().enumerate() {
        let target = format!("/from-{point}?move");
        let whole = duration_of(&nodes[0], &target, &sent);
        let waiting = nodes[0].in_background(&target, &sent);
        thread::sleep(at(whole, number));
        // Those before it are gone already.
        drop(nodes.remove(1).kill());
        let answer = waiting.join().unwrap();
        match answer.status {
            200 => assert_eq!(answer.body, sent, "{point}"),
            status => {
                assert!([502, 503].contains(&status), "{point}: {status} {}", answer.text());
                failed += 1;
            }
        }
        nodes[0].wait_at_rest(SOON);
    }
    assert!(failed > 0, "none of them was in the middle of anything");
    all_at_rest(&nodes);
}

#[test]
fn senders_that_die_at_any_point_leave_nothing_where_they_called() {
    need_sandbox!();
    let one = |_: &str| "a".to_owned();
    let Some((_net, _nats, mut nodes)) =
        network_of(&names(), "senders", |app| pairs(app, str::to_owned, one))
    else {
        return;
    };
    let sent = payload(PAYLOAD_BYTES);
    let mut cut = 0;
    for (number, point) in POINTS.iter().enumerate() {
        let target = format!("/from-{point}?move");
        let whole = duration_of(&nodes[1], &target, &sent);
        let waiting = nodes[1].in_background_lossy(&target, &sent);
        thread::sleep(at(whole, number));
        drop(nodes.remove(1).kill());
        match waiting.join().unwrap() {
            Some(answer) => {
                assert!(answer.status == 200 && answer.body == sent, "{point}: {}", answer.status)
            }
            None => cut += 1,
        }
        nodes[0].wait_at_rest(SOON);
        let callee = format!("to-{point}");
        wait_until(SOON, "the callee has nothing in its hands", || {
            nodes[0].function(&callee)["replicas"][0]["in_flight"].as_u64() == Some(0)
        });
        assert_eq!(nodes[0].post(&format!("/{callee}?move"), b"x").body, b"x");
    }
    assert!(cut > 0, "none of them was in the middle of anything");
    all_at_rest(&nodes);
}
