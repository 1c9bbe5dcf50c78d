//! A replica that ends at any step of a hand-over: its call fails, its buffers come back.

use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_flow::InvokeError;

use crate::edges::{as_callee, as_caller};
use crate::stage::{Expect, Stage, alone, on_stage, spec, strike};

#[test]
fn with_a_request_in_its_ring() {
    strike("die-with-request", Expect::Dies("status 13"));
}

#[test]
fn with_an_accepted_request() {
    strike("die-accepted", Expect::Dies("status 13"));
}

#[test]
fn with_a_buffer_of_its_own() {
    strike("die-with-buffer", Expect::Dies("status 13"));
}

#[test]
fn between_transfer_and_publication() {
    strike("die-departed", Expect::Dies("status 13"));
}

#[test]
fn after_publication_before_the_bell() {
    // What was published counts, rung or not.
    strike("die-published", Expect::FineOnce);
}

#[test]
fn after_its_answer() {
    strike("die-answered", Expect::FineOnce);
}

/// A replica that answers and dies in one breath frees a place for a call that waits. That call fails or is served by
/// the next replica, and its buffer is not lost with the dead one.
#[test]
fn behind_an_answer_that_others_wait_for() {
    on_stage(async |stage| {
        stage
            .flow
            .deploy(spec(&alone("die-behind-answers").replace("concurrency = 4", "concurrency = 1")))
            .await
            .unwrap();
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let stage = Rc::clone(&stage);
                tokio::task::spawn_local(async move { stage.call("villain", "/").await })
            })
            .collect();
        for call in calls {
            let reply = call.await.unwrap();
            let expected = [
                reply.is_ok(),
                matches!(reply, Err(InvokeError::ReplicaDied { .. })),
                matches!(reply, Err(InvokeError::NoReplica { .. })),
                matches!(reply, Err(InvokeError::DeadlineExceeded { .. })),
            ];
            assert!(expected.contains(&true), "{reply:?}");
        }
        stage.settle(&["villain"]).await;
    });
}

macro_rules! callee_dies {
    ($($name:ident: $attack:literal;)*) => { $(
        #[test]
        fn $name() {
            as_callee($attack, |text| assert!(text.contains("failed") || text.contains("ok"), "{text}"));
        }
    )* };
}

callee_dies! {
    called: "die-called";
    called_and_accepted: "die-call-accepted";
    called_and_departed: "die-call-departed";
    called_and_published: "die-call-published";
    called_and_answered: "die-call-answered";
}

macro_rules! caller_dies {
    ($($name:ident: $attack:literal;)*) => { $(
        #[test]
        fn $name() {
            as_caller($attack, Expect::Dies("status 13"));
        }
    )* };
}

caller_dies! {
    calling_with_a_buffer: "die-calling";
    calling_and_sent: "die-call-sent";
    calling_and_rung: "die-call-rung";
    calling_with_a_buffer_that_it_keeps: "die-call-lent";
}

const CHAIN: &str = r#"
    [app]
    name = "lair"
    [pool]
    size = "8MiB"
    [functions.caller]
    artifact = "caller"
    isolation = "process"
    args = ["echo"]
    calls = ["echo"]
    timeout = "900ms"
    scale = { min = 1, max = 1, concurrency = 8 }
    [functions.echo]
    artifact = "echo"
    isolation = "process"
    timeout = "900ms"
    scale = { min = 2, max = 2, concurrency = 8 }
"#;

/// Honest functions under load, killed at any moment: whatever they were doing, everything comes back.
#[test]
fn at_any_moment_under_load() {
    on_stage(async |stage| {
        stage.flow.deploy(spec(CHAIN)).await.unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let stage = Rc::clone(&stage);
                tokio::task::spawn_local(async move {
                    let mut good = 0;
                    while Instant::now() < until {
                        good += u32::from(stage.call("caller", "/").await.is_ok());
                        tokio::task::yield_now().await;
                    }
                    good
                })
            })
            .collect();
        let mut step = 0u64;
        while Instant::now() < until {
            step += 1;
            tokio::time::sleep(Duration::from_millis(17 + step * 7919 % 41)).await;
            let function = if step.is_multiple_of(3) { "caller" } else { "echo" };
            let pids = stage.pids(function);
            let at = usize::try_from(step).unwrap_or(0) % pids.len();
            if pids[at] != 0 {
                Stage::kill(pids[at]);
            }
        }
        let mut good = 0;
        for client in clients {
            good += client.await.unwrap();
        }
        assert!(good > 0, "not a single call got through");
        stage.settle(&["caller", "echo"]).await;
    });
}
