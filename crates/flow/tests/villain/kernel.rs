//! Lies to the kernel, where it hands over: refused, counted, and nobody else suffers.

use crate::edges;
use crate::stage::{Expect, Stage, alone, on_stage, spec, strike_in};

/// The villain calls an honest function, as another one does.
fn with_callee(attack: &str) -> String {
    format!(
        r#"
        [app]
        name = "lair"
        wake = "ebpf"
        [pool]
        size = "8MiB"
        [functions.echo]
        artifact = "echo"
        isolation = "process"
        timeout = "2s"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        [functions.caller]
        artifact = "caller"
        isolation = "process"
        args = ["echo"]
        calls = ["echo"]
        timeout = "2s"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        [functions.villain]
        artifact = "villain"
        isolation = "process"
        args = ["{attack}"]
        calls = ["echo"]
        timeout = "2s"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        "#
    )
}

/// An honest function calls the villain.
fn with_caller(attack: &str) -> String {
    edges::with_caller(attack).replace("name = \"lair\"", "name = \"lair\"\nwake = \"ebpf\"")
}

/// How often the kernel refused something of the villain's app for a reason.
fn refusals(stage: &Stage, cause: &str) -> u64 {
    let status = stage.flow.status();
    let app = status.iter().find(|app| app.app == "lair");
    let counted = app.and_then(|app| app.refusals.iter().find(|(word, _)| *word == cause));
    counted.map_or(0, |(_, count)| *count)
}

/// Whether the kernel hands over here; says so loudly if not.
fn is_guarded(stage: &Stage) -> bool {
    let status = stage.flow.status();
    let app = status.iter().find(|app| app.app == "lair").unwrap();
    if app.wake != "ebpf" {
        println!("SKIP: the kernel does not hand over here: {}", app.wake_because);
    }
    app.wake == "ebpf"
}

/// The villain lies to the kernel, twice. What it is killed for, if it is (without words: if it happens to tell three lies in a row), and
/// for what it is refused.
fn to_kernel(attack: &'static str, dies_for: Option<&'static str>, cause: Option<&'static str>) {
    on_stage(async move |stage| {
        stage.flow.deploy(spec(&with_callee(attack))).await.unwrap();
        if !is_guarded(&stage) {
            return;
        }
        for round in 1..=2 {
            stage.up("villain").await;
            let echo = stage.call("echo", "/").await.map(|reply| reply.body);
            assert_eq!(echo, Ok(b"a request of some bytes".to_vec()), "an honest function suffers");
            let caller = stage.call("caller", "/once").await;
            let text = caller.map(|reply| String::from_utf8_lossy(&reply.body).into_owned());
            assert!(
                text.as_ref().is_ok_and(|text| text.contains("move ok")),
                "an honest call suffers: {text:?}"
            );
            let reply = stage.call("villain", "/").await;
            println!("{attack}: {:?}", reply.as_ref().map(|reply| reply.status));
            if dies_for.is_some_and(|why| !why.is_empty()) {
                stage.until("the villain is killed", || stage.restarts("villain") >= round).await;
            }
        }
        let lines = stage.flow.logs_after(0, Some("lair"), None);
        assert!(
            lines.iter().all(|line| !line.message.contains("status 7")),
            "the kernel believed it: {lines:?}"
        );
        if let Some(why) = dies_for {
            assert!(lines.iter().any(|line| line.message.contains(why)), "{lines:?}");
        } else {
            assert_eq!(stage.restarts("villain"), 0, "{lines:?}");
        }
        if let Some(cause) = cause {
            assert!(
                refusals(&stage, cause) > 0,
                "nothing was refused for {cause:?}: {:?}",
                stage.flow.status()
            );
        }
        assert_eq!((stage.restarts("echo"), stage.restarts("caller")), (0, 0), "an honest function died");
        stage.settle(&["villain", "echo", "caller"]).await;
    });
}

macro_rules! to_kernel {
    ($($name:ident: $attack:literal => $dies_for:expr, $cause:expr;)*) => { $(
        #[test]
        fn $name() { to_kernel(concat!("kernel-", $attack), $dies_for, $cause); }
    )* };
}

const LIES: Option<&str> = Some("three bad descriptors");

to_kernel! {
    edges_of_others_and_of_nobody: "undeclared" => LIES, Some("ends");
    payloads_of_others: "foreign" => LIES, Some("held");
    ends_of_what_others_have: "foreign-ends" => LIES, Some("held");
    payloads_of_the_past: "stale" => LIES, Some("stale");
    payloads_beyond_their_ends: "outside" => LIES, Some("range");
    payloads_given_away_twice: "double" => Some(""), Some("held");
    half_a_packet: "truncated" => Some("no packet"), Some("size");
    packets_at_once: "oversized" => LIES, Some("op");
    packets_in_two_parts: "split" => None, Some("size");
    urgent_packets: "urgent" => None, None;
    packets_to_itself_without_end: "flood" => None, Some("unread");
    calls_without_end: "calls" => None, Some("credit");
    answers_against_the_direction: "direction" => LIES, Some("kind");
    what_only_the_node_may_say: "node" => LIES, Some("op");
    a_socket_that_is_shut: "shutdown" => Some("it closed its socket"), None;
    a_table_that_can_be_written: "map" => None, None;
    noise: "noise" => Some(""), None;
}

/// An honest function calls the villain, which answers with lies. It always comes to an answer of its own, which says what it got.
fn as_callee(attack: &'static str, says: &'static str, cause: Option<&'static str>) {
    on_stage(async move |stage| {
        stage.flow.deploy(spec(&with_caller(attack))).await.unwrap();
        if !is_guarded(&stage) {
            return;
        }
        for _ in 0..2 {
            stage.up("villain").await;
            let reply = stage.call("caller", "/once").await;
            let text = reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned());
            println!("{attack}: {text:?}");
            assert!(text.as_ref().is_ok_and(|text| text.contains(says)), "{text:?}");
        }
        if let Some(cause) = cause {
            assert!(refusals(&stage, cause) > 0, "nothing was refused for {cause:?}");
        }
        assert_eq!(stage.restarts("caller"), 0, "the honest caller died");
        stage.settle(&["villain", "caller"]).await;
    });
}

macro_rules! to_caller {
    ($($name:ident: $attack:literal => $says:literal, $cause:expr;)*) => { $(
        #[test]
        fn $name() { as_callee(concat!("kernel-callee-", $attack), $says, $cause); }
    )* };
}

to_caller! {
    answers_given_twice: "twice" => "move ok", Some("reply");
    answers_to_nobody: "unknown" => "move failed", Some("reply");
    answers_with_what_others_have: "foreign" => "move failed", None;
    answers_that_it_keeps: "kept" => "move", None;
}

/// Lies to the node over the link, which stays as it is: one test for each, and what becomes of the calls.
macro_rules! to_node {
    ($($name:ident: $attack:literal => $expect:expr;)*) => { $(
        #[test]
        fn $name() {
            let guarded = alone($attack).replacen("[app]", "[app]\nwake = \"ebpf\"", 1);
            strike_in($attack, &guarded, $expect);
        }
    )* };
}

to_node! {
    forged_index: "forged-index" => Expect::Bad;
    index_beyond_the_table: "index-beyond" => Expect::Bad;
    index_near_the_end_of_numbers: "index-max" => Expect::Bad;
    stale_generation: "stale" => Expect::Bad;
    offset_outside_the_buffer: "offset-outside" => Expect::Bad;
    length_outside_the_buffer: "len-outside" => Expect::Bad;
    range_that_wraps: "wrapping" => Expect::Bad;
    reply_twice: "reply-twice" => Expect::Any;
    reply_to_an_unknown_tag: "unknown-tag" => Expect::Dies("three bad descriptors");
    unknown_kinds: "unknown-kinds" => Expect::Dies("three bad descriptors");
    double_free: "double-free" => Expect::Dies("three bad descriptors");
    free_of_foreign_buffers: "free-foreign" => Expect::Dies("three bad descriptors");
    free_of_forged_handles: "free-forged" => Expect::Dies("three bad descriptors");
    ring_overrun: "overrun" => Expect::Dies("overran");
    garbage_over_the_link: "garbage-link" => Expect::Down;
    link_never_read: "never-reads" => Expect::Late;
    allocation_flood: "alloc-flood" => Expect::Any;
    handler_that_never_returns: "spin" => Expect::Late;
    random_descriptors: "noise" => Expect::Any;
}

/// What a replica keeps to use again is not in use, though its table says that it holds it.
#[test]
fn nothing_is_in_use_at_rest() {
    on_stage(async |stage| {
        stage.flow.deploy(spec(&with_callee("honest"))).await.unwrap();
        if !is_guarded(&stage) {
            return;
        }
        for _ in 0..50 {
            let caller = stage.call("caller", "/").await.map(|reply| reply.body);
            assert!(caller.is_ok_and(|text| !text.is_empty()));
        }
        let is_at_rest = || stage.flow.pool("lair").is_some_and(|pool| pool.buffers_in_use == 0);
        stage.until("buffers are in use", is_at_rest).await;
        assert!(stage.flow.capabilities(Some("lair")).is_empty());
        let edges = stage.flow.status().into_iter().find(|app| app.app == "lair").unwrap().edges;
        let edge = edges.iter().find(|edge| edge.caller == "caller" && edge.callee == "echo").unwrap();
        assert!(edge.by_kernel && edge.calls == 150 && edge.refusals == 0, "{edge:?}");
        stage.settle(&["villain", "echo", "caller"]).await;
    });
}
