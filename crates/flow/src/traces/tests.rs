//! Spans of invocations as replicas report them.

use super::*;

fn traced(span: u64) -> Traced {
    Traced { context: TraceContext { trace: 77, span, is_sampled: true }, parent: 3 }
}

fn numbers() -> impl Fn() -> u64 {
    let last = std::cell::Cell::new(100);
    move || {
        last.set(last.get() + 1);
        last.get()
    }
}

/// A hop `from` nanoseconds after `base`.
fn cost(invocation: u64, caller: u16, base: u64, (from, wall_ns): (u64, u64)) -> HopCost {
    let began_ns = (base + from) & HopCost::BEGAN_MAX;
    HopCost { invocation, caller, began_ns, wall_ns, status: 200, ..HopCost::default() }
}

#[test]
fn a_chain_becomes_a_trace_with_the_right_parents() {
    let mut traces = Traces::default();
    traces.begin(9, traced(5), ("shop", "frontend"), Duration::from_millis(1));
    let base = now_ns() - 900_000;
    // As they end: the innermost first. The same function twice, one of them while the other is under way.
    for (by, name, caller, times) in [
        (30, "currency", 20, (200_000, 50_000)),
        (20, "cart", 10, (100_000, 300_000)),
        (30, "currency", 10, (450_000, 50_000)),
        (10, "frontend", 0, (50_000, 700_000)),
    ] {
        traces.add("shop", &cost(9, caller, base, times), (by, name), None);
        traces.add("spy", &cost(9, caller, base, times), (by, name), None);
    }
    traces.end(9, 200);
    assert!(traces.take(100, numbers(), false).is_empty(), "it has not settled");
    let spans = traces.take(100, numbers(), true);
    let of = |span: u64| spans.iter().find(|found| found.span == span).unwrap();
    let path = |span: &Span| {
        let (mut span, mut names) = (span, vec![span.name.clone()]);
        while span.parent != 3 {
            span = of(span.parent);
            names.push(span.name.clone());
        }
        names.join(" < ")
    };
    let paths: Vec<String> = spans.iter().map(path).collect();
    assert_eq!(
        paths,
        [
            "shop/frontend",
            "currency < cart < frontend < shop/frontend",
            "cart < frontend < shop/frontend",
            "currency < frontend < shop/frontend",
            "frontend < shop/frontend",
        ]
    );
    let root = of(5);
    assert!(root.is_server && root.trace == 77);
    for span in &spans {
        assert!(root.began_ns <= span.began_ns && span.began_ns <= span.ended_ns);
        assert!(span.ended_ns <= root.ended_ns && span.trace == 77);
    }
    assert_eq!(of(101).ended_ns - of(101).began_ns, 50_000);
    assert_eq!(traces.known.of(9), Some((77, 5)));
}

fn over(invocation: u64, status: u16) -> SpanEnd<'static> {
    SpanEnd {
        trace: Trace { trace: 77, span: 5, parent: 3 },
        span: 6,
        function: "frontend",
        method: "GET",
        path: "/cart",
        status,
        duration_ns: 800_000,
        invocation,
    }
}

#[test]
fn policies_stand_between_an_invocation_and_what_it_calls() {
    let mut traces = Traces::default();
    traces.begin(9, traced(5), ("shop", "frontend"), Duration::from_millis(1));
    let base = now_ns() - 900_000;
    traces.add("shop", &cost(9, 0, base, (50_000, 700_000)), (10, "frontend"), None);
    traces.end(9, 200);
    traces.policies("spy", &SpanEnd { path: "/elsewhere", ..over(9, 500) });
    traces.policies("shop", &over(9, 200));
    traces.policies("shop", &over(10, 200));
    let spans = traces.take(100, numbers(), true);
    let seen: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.span, span.parent)).collect();
    assert_eq!(seen, [("shop/frontend", 5, 3), ("shop/frontend policies", 6, 5), ("frontend", 101, 6)]);
    assert!(spans[1].attributes.contains(&("url.path", Value::Text("/cart".to_owned()))));
    assert!(spans[0].began_ns <= spans[1].began_ns && spans[1].ended_ns <= spans[0].ended_ns);
}

#[test]
fn a_request_that_policies_refuse_is_told_of_by_them_alone() {
    let mut traces = Traces::default();
    traces.policies("shop", &over(0, 401));
    let spans = traces.take(100, numbers(), false);
    let seen: Vec<_> =
        spans.iter().map(|span| (span.span, span.parent, span.is_server, span.is_error)).collect();
    assert_eq!(seen, [(5, 3, true, false), (6, 5, false, false)]);
    assert!(spans.iter().all(|span| span.attributes.iter().all(|(name, _)| *name != "baton.invocation")));
    assert!(spans.iter().all(|span| span.ended_ns - span.began_ns == 800_000));
    assert_eq!(traces.status.sampled, 1);
    (0..SPANS_MAX).for_each(|_| traces.policies("shop", &over(0, 401)));
    assert_eq!((traces.status.waiting, traces.status.dropped), (SPANS_MAX as u64, SPANS_MAX as u64));
}

#[test]
fn a_replica_that_lies_about_times_stays_within_its_invocation() {
    let mut traces = Traces::default();
    traces.begin(1, traced(5), ("a", "f"), Duration::ZERO);
    let lie =
        HopCost { invocation: 1, began_ns: HopCost::BEGAN_MAX, wall_ns: u64::MAX, ..HopCost::default() };
    traces.add("a", &lie, (1, "f"), None);
    traces.end(1, 200);
    let spans = traces.take(10, numbers(), true);
    assert!(spans[0].began_ns <= spans[1].began_ns && spans[1].ended_ns <= spans[0].ended_ns);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let mut traces = Traces::default();
    for invocation in 1..=OPEN_MAX as u64 + 7 {
        traces.begin(invocation, traced(invocation), ("a", "f"), Duration::ZERO);
    }
    assert_eq!((traces.status.sampled, traces.status.dropped), (OPEN_MAX as u64, 7));
    for invocation in 1..=OPEN_MAX as u64 {
        for _ in 0..5 {
            traces.add("a", &HopCost { invocation, ..HopCost::default() }, (1, "f"), None);
        }
        traces.end(invocation, 200);
    }
    let taken = traces.take(1000, numbers(), true);
    assert_eq!((taken.len(), traces.status.waiting), (1000, SPANS_MAX as u64 - 1000));
    assert_eq!(traces.status.dropped, 7 + 6 * OPEN_MAX as u64 - SPANS_MAX as u64);
    assert!(traces.open.is_empty());
}

#[test]
fn low_bits_become_the_latest_time_that_is_past() {
    let now = (5 << 48) + 1000;
    assert_eq!(whole(now, 999), now - 1);
    assert_eq!(whole(now, 1001), now - HopCost::BEGAN_MAX);
}
