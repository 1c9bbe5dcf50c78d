//! What only shows in the node's own books: start-up, receipts, places at replicas that die.

use std::time::{Duration, Instant};

use baton_flow::{DeployError, DirectCall};

use crate::stage::{alone, on_stage, spec};

/// A version that does not come up is refused, quickly, and leaves nothing.
fn refused(attack: &'static str, within: Duration) {
    on_stage(async move |stage| {
        let started = Instant::now();
        let deployed = stage.flow.deploy(spec(&alone(attack))).await;
        assert!(matches!(deployed, Err(DeployError::NotReady { .. })), "{deployed:?}");
        assert!(started.elapsed() < within, "{:?}", started.elapsed());
        assert!(stage.flow.status().iter().all(|app| app.app != "lair"));
    });
}

#[test]
fn exit_during_boot() {
    refused("boot-exit", Duration::from_secs(5));
}

#[test]
fn exit_instead_of_ready() {
    refused("boot-exit-late", Duration::from_secs(5));
}

#[test]
fn another_byte_than_ready() {
    refused("boot-wrong-byte", Duration::from_secs(5));
}

#[test]
fn control_socket_closed_during_boot() {
    refused("boot-close", Duration::from_secs(5));
}

#[test]
fn garbage_on_the_link_before_ready() {
    refused("boot-talk", Duration::from_secs(5));
}

#[test]
fn chatter_instead_of_one_byte() {
    on_stage(async |stage| {
        stage.flow.deploy(spec(&alone("boot-chatter"))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(stage.call("villain", "/").await.is_err(), "it never serves");
        stage.settle(&["villain"]).await;
    });
}

#[test]
fn death_right_after_ready() {
    on_stage(async |stage| {
        // Whether the deployment still saw it alive is a race; the node comes to terms with both.
        let _ = stage.flow.deploy(spec(&alone("exit-when-ready"))).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.flow.remove("lair").await;
    });
}

/// Costs that a villain reports count for its own app's invocations and for no other's.
#[test]
fn receipts_of_other_apps_are_out_of_reach() {
    on_stage(async |stage| {
        stage.flow.record(true);
        stage.flow.deploy(spec(&alone("receipts"))).await.unwrap();
        for _ in 0..5 {
            let reply = stage.call("villain", "/").await;
            assert!(reply.is_ok(), "{reply:?}");
            let call = DirectCall { method: "GET".into(), path: "/".into(), ..DirectCall::default() };
            stage.flow.invoke("neighbour", "echo", call).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let receipts = stage.flow.receipts();
        let foreign = receipts.iter().filter(|receipt| receipt.app == "neighbour");
        assert!(foreign.clone().count() > 0);
        for receipt in foreign {
            assert!(
                receipt.hops.iter().all(|hop| hop.function == "echo" && hop.status != u16::MAX),
                "{receipt:?}"
            );
        }
        stage.settle(&["villain"]).await;
    });
}

/// A replica that never gives up its calls does not keep their places for good, however lively it looks.
#[test]
fn calls_that_are_never_given_up_cost_the_replica_its_life() {
    on_stage(async |stage| {
        stage.flow.deploy(spec(&alone("busy-liar"))).await.unwrap();
        assert!(stage.call("villain", "/").await.is_err());
        stage.until("it keeps its places", || stage.restarts("villain") > 0).await;
        stage.settle(&["villain"]).await;
    });
}
