//! Lies to honest functions of the same app.

use crate::stage::{Expect, Stage, on_stage, spec};

pub(crate) fn with_caller(attack: &str) -> String {
    format!(
        r#"
        [app]
        name = "lair"
        [pool]
        size = "8MiB"
        [functions.caller]
        artifact = "caller"
        isolation = "process"
        args = ["villain"]
        calls = ["villain"]
        timeout = "2s"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        [functions.villain]
        artifact = "villain"
        isolation = "process"
        args = ["{attack}"]
        timeout = "500ms"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        "#
    )
}

fn with_callee(attack: &str) -> String {
    format!(
        r#"
        [app]
        name = "lair"
        [pool]
        size = "8MiB"
        [functions.echo]
        artifact = "echo"
        isolation = "process"
        timeout = "1s"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        [functions.villain]
        artifact = "villain"
        isolation = "process"
        args = ["{attack}"]
        calls = ["echo"]
        timeout = "500ms"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        "#
    )
}

/// An honest function calls the villain, several times. It always comes to an answer of its own, which says what it got.
pub(crate) fn as_callee(attack: &'static str, check: impl Fn(&str) + Send + 'static) {
    on_stage(async move |stage| {
        stage.flow.deploy(spec(&with_caller(attack))).await.unwrap();
        for _ in 0..2 {
            stage.up("villain").await;
            let reply = stage.call("caller", "/once").await;
            let text = reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned());
            println!("{attack}: {text:?}");
            check(&text.expect("the honest caller has an answer"));
        }
        let all = stage.call("caller", "/").await;
        assert!(all.is_ok(), "{all:?}");
        assert_eq!(stage.restarts("caller"), 0, "the honest caller died");
        stage.settle(&["villain", "caller"]).await;
    });
}

/// The villain calls an honest function, which goes on to serve the node.
pub(crate) fn as_caller(attack: &'static str, expect: Expect) {
    on_stage(async move |stage| {
        stage.flow.deploy(spec(&with_callee(attack))).await.unwrap();
        for _ in 0..2 {
            stage.up("villain").await;
            let reply = stage.call("villain", "/").await;
            Stage::check(expect, &reply);
            let echo = stage.call("echo", "/").await.map(|reply| reply.body);
            assert_eq!(echo, Ok(b"a request of some bytes".to_vec()), "the honest callee suffers");
        }
        assert_eq!(stage.restarts("echo"), 0, "the honest callee died");
        stage.settle(&["villain", "echo"]).await;
    });
}

/// The villain lies on its road to the network. What it is killed for, if it is.
fn as_client(attack: &'static str, dies_for: Option<&'static str>) {
    on_stage(async move |stage| {
        let network = with_callee(attack).replace("calls = [\"echo\"]", "network = [\"127.0.0.1:9\"]");
        stage.flow.deploy(spec(&network)).await.unwrap();
        for _ in 0..2 {
            stage.up("villain").await;
            let reply = stage.call("villain", "/").await;
            println!("{attack}: {:?}", reply.as_ref().map(|reply| reply.status));
            let echo = stage.call("echo", "/").await.map(|reply| reply.body);
            assert_eq!(echo, Ok(b"a request of some bytes".to_vec()), "an honest function suffers");
        }
        if let Some(why) = dies_for {
            stage.until("the villain is killed", || stage.restarts("villain") > 0).await;
            let lines = stage.flow.logs_after(0, Some("lair"), None);
            assert!(lines.iter().any(|line| line.message.contains(why)), "{lines:?}");
        }
        assert_eq!(stage.restarts("echo"), 0, "an honest function died");
        stage.settle(&["villain", "echo"]).await;
    });
}

macro_rules! to_network {
    ($($name:ident: $attack:literal => $dies_for:expr;)*) => { $(
        #[test]
        fn $name() { as_client($attack, $dies_for); }
    )* };
}

to_network! {
    outgoing_requests_with_forged_payloads: "to-network-forged" => Some("three bad descriptors");
    outgoing_requests_with_payloads_that_it_keeps: "to-network-held" => Some("three bad descriptors");
    overrun_of_the_outgoing_requests: "to-network-overrun" => Some("overran its ring to the network");
    random_outgoing_requests: "to-network-noise" => None;
    load_that_is_not_there: "to-network-bell" => None;
    road_to_the_network_declared_closed: "to-network-close" => None;
}

macro_rules! to_caller {
    ($($name:ident: $attack:literal => $says:literal;)*) => { $(
        #[test]
        fn $name() {
            as_callee($attack, |text| assert!(text.contains($says), "{text}"));
        }
    )* };
}

to_caller! {
    answer_with_a_forged_payload: "to-caller-forged" => "move failed";
    answer_outside_its_buffer: "to-caller-outside" => "move failed";
    answer_with_a_head_outside_its_buffer: "to-caller-head" => "move failed";
    answers_to_unknown_calls: "to-caller-unknown" => "move failed";
    answer_given_many_times: "to-caller-twice" => "move ok";
    random_answers: "to-caller-noise" => "move";
    overrun_of_the_answers: "to-caller-overrun" => "move failed";
    answers_without_end: "to-caller-flood" => "move";
    control_messages_that_were_never_sent: "to-caller-bell" => "move ok";
    edge_declared_closed: "to-caller-close" => "move failed";
    no_answer_at_all: "to-caller-silence" => "move failed";
}

macro_rules! to_callee {
    ($($name:ident: $attack:literal;)*) => { $(
        #[test]
        fn $name() { as_caller($attack, Expect::Fine); }
    )* };
}

to_callee! {
    requests_with_forged_payloads: "to-callee-forged";
    requests_with_payloads_that_it_keeps: "to-callee-held";
    overrun_of_the_requests: "to-callee-overrun";
    random_requests: "to-callee-noise";
    control_messages_to_the_callee_that_were_never_sent: "to-callee-bell";
    edge_to_the_callee_declared_closed: "to-callee-close";
}

/// A replica that closed its control socket cannot take new edges: it pays for that, not the honest replica that is
/// started again beside it.
#[test]
fn closed_control_socket_harms_no_new_peer() {
    on_stage(async |stage| {
        stage.flow.deploy(spec(&with_caller("close-control"))).await.unwrap();
        let died = stage.call("caller", "/die").await;
        assert!(died.is_err(), "{died:?}");
        stage.until("the honest caller does not come back", || stage.restarts("caller") == 1).await;
        stage.up("caller").await;
        stage.up("villain").await;
        assert!(stage.call("caller", "/once").await.is_ok());
        assert_eq!(stage.restarts("caller"), 1, "the honest caller paid for it");
        stage.settle(&["villain", "caller"]).await;
    });
}
