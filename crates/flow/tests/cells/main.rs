//! Cells as the node keeps them: groups, templates, forks, deaths, sleep, snapshots, logs.
//!
//! Real processes in the real sandbox; what runs in them is the stand-in of `e2e/stub-cell`, so that the node's side is
//! tested apart from keys and gates.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;
#[path = "../villain/workspace.rs"]
mod workspace;

use std::time::Duration;

use baton_flow::{BundledFiles, DeployError, InvokeError};

use crate::stage::{is_alive, kill, on_stage, on_stage_with, parent_of};

#[test]
fn functions_of_one_group_answer_from_one_cell() {
    on_stage(async |stage| {
        let deployed = stage.deploy(&[("cart", "echo", ""), ("catalog", "echo", "")]).await.unwrap();
        assert_eq!(deployed.replicas, 2);
        stage.expect_echo("cart").await;
        stage.expect_echo("catalog").await;
        let cart = stage.function("cart");
        assert_eq!((cart.isolation.as_str(), cart.runs_as.as_str()), ("compartment", "compartment"));
        assert_eq!((cart.replicas[0].cell, cart.replicas[0].state.as_str()), (Some(0), "ready"));
        assert_eq!(stage.pids("cart"), stage.pids("catalog"), "one process");
        stage.settled().await;
        stage.until("the cell got no page map", || stage.said("page map") == 1).await;
    });
}

#[test]
fn the_busiest_function_says_how_many_cells_there_are() {
    on_stage(async |stage| {
        stage
            .deploy(&[("cart", "echo", ""), ("catalog", "echo", "scale = { min = 3, max = 3 }")])
            .await
            .unwrap();
        let mut pids = stage.pids("cart");
        pids.dedup();
        assert_eq!(pids.len(), 3);
        assert_eq!(pids, stage.pids("catalog"));
        let cells: Vec<_> = stage.function("cart").replicas.iter().map(|replica| replica.cell).collect();
        assert_eq!(cells, [Some(0), Some(1), Some(2)]);
    });
}

fn refused(word: &'static str, why: &'static str) {
    on_stage(async move |stage| {
        let refused = stage.deploy(&[("cart", word, ""), ("catalog", "echo", "")]).await;
        let Err(DeployError::NotReady { function, why: told }) = refused else { panic!("{refused:?}") };
        assert_eq!(function, "cart");
        assert!(told.contains(why), "{told}");
        assert!(stage.flow.status().is_empty());
    });
}

#[test]
fn a_function_that_cannot_be_loaded_fails_the_deployment_with_its_reason() {
    refused("cannot-load", "no such instruction; use another compiler");
}

#[test]
fn a_template_that_ends_fails_the_deployment() {
    refused("template-exits", "exited with status 9");
}

#[test]
fn a_template_that_never_loads_fails_the_deployment() {
    refused("never-loads", "did not load");
}

#[test]
fn a_cell_that_is_never_ready_fails_the_deployment() {
    refused("never-ready", "did not say that it is ready");
}

#[test]
fn a_cell_that_dies_fails_its_calls_and_is_replaced() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "dies", ""), ("catalog", "echo", "")]).await.unwrap();
        let before = stage.pids("catalog");
        let died = stage.call("cart").await.unwrap_err();
        assert!(matches!(&died, InvokeError::ReplicaDied { how, .. } if how.contains("status 7")), "{died}");
        stage.until("nobody noticed", || stage.restarts("catalog") == 1).await;
        stage.up("catalog").await;
        stage.expect_echo("catalog").await;
        assert_ne!(stage.pids("catalog"), before);
        assert_eq!(parent_of(stage.pids("cart")[0]), parent_of(stage.pids("catalog")[0]));
        assert_eq!(stage.said("their cell its cell"), 0);
        stage.settled().await;
    });
}

#[test]
fn a_template_that_dies_is_started_again_from_its_snapshots() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "echo", ""), ("catalog", "echo", "")]).await.unwrap();
        let cell = stage.pids("cart")[0];
        let template = parent_of(cell);
        assert_eq!(stage.said("from its snapshot"), 0);
        kill(template);
        stage.until("its cell lives on", || !is_alive(cell)).await;
        stage.until("nobody noticed", || stage.restarts("cart") >= 1).await;
        stage.up("cart").await;
        stage.expect_echo("cart").await;
        stage.expect_echo("catalog").await;
        assert_ne!(parent_of(stage.pids("cart")[0]), template);
        assert_eq!(stage.said("from its snapshot"), 2);
    });
}

#[test]
fn a_replica_that_lies_costs_its_cell_its_life_and_the_node_nothing() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "lies", ""), ("catalog", "echo", "")]).await.unwrap();
        let died = stage.call("cart").await.unwrap_err();
        assert!(matches!(&died, InvokeError::ReplicaDied { how, .. } if how.contains("three bad")), "{died}");
        stage.until("nobody noticed", || stage.restarts("catalog") == 1).await;
        stage.up("catalog").await;
        stage.expect_echo("catalog").await;
        stage.until("nobody said why", || stage.said("because of cart: it sent three bad") == 1).await;
        stage.settled().await;
    });
}

#[test]
fn without_need_there_is_a_cell_only_while_it_is_used() {
    on_stage(async |stage| {
        let sleepy = "scale = { min = 0, max = 1, idle = \"1s\", queue = 0 }";
        let deployed = stage.deploy(&[("cart", "echo", sleepy), ("catalog", "echo", sleepy)]).await.unwrap();
        assert_eq!(deployed.replicas, 0);
        assert!(stage.function("cart").replicas.is_empty());
        stage.expect_echo("cart").await;
        let cell = stage.pids("catalog")[0];
        assert!(is_alive(cell));
        stage.until("it does not fall asleep", || stage.function("cart").replicas.is_empty()).await;
        assert!(!is_alive(cell));
        stage.expect_echo("catalog").await;
        assert_ne!(stage.pids("cart")[0], cell);
        assert_eq!(stage.restarts("cart"), 0, "sleep is no death");
        stage.settled().await;
    });
}

/// What need not be there is gone then, what has to be is there anew.
#[test]
fn idle_cells_end_when_they_are_told_to() {
    for (scale, left) in [("scale = { min = 0, max = 1 }", 0), ("scale = { min = 2, max = 2 }", 2)] {
        on_stage(async move |stage| {
            stage.deploy(&[("cart", "echo", scale), ("catalog", "echo", scale)]).await.unwrap();
            stage.expect_echo("cart").await;
            let cells = stage.pids("cart");
            assert_eq!(stage.flow.evict("shop").await, u32::try_from(cells.len()).ok());
            assert!(cells.iter().all(|cell| !is_alive(*cell)));
            stage.until("they are not there anew", || stage.function("cart").replicas.len() == left).await;
            stage.expect_echo("catalog").await;
            assert_eq!(stage.restarts("cart"), 0, "an eviction is no death");
            assert_eq!(stage.flow.evict("nobody").await, None);
            let loaded = stage.function("cart").loaded.unwrap();
            assert!(!loaded.from_snapshot && loaded.load_ns > 0, "{loaded:?}");
            stage.settled().await;
        });
    }
}

/// A cell that is used does not fall asleep, however short its time.
#[test]
fn a_cell_in_use_stays() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "echo", "scale = { min = 0, max = 1, idle = \"1s\" }")]).await.unwrap();
        stage.expect_echo("cart").await;
        let cell = stage.pids("cart");
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            stage.expect_echo("cart").await;
        }
        assert_eq!(stage.pids("cart"), cell);
    });
}

#[test]
fn lines_of_a_compartment_are_its_functions() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "talks", ""), ("catalog", "echo", "")]).await.unwrap();
        assert_eq!(stage.call("cart").await.unwrap().status, 200);
        stage.until("no line came", || stage.said("plain") == 1).await;
        let lines = stage.lines();
        let careful = lines.iter().find(|line| line.message == "careful").unwrap();
        assert_eq!((careful.function.as_str(), careful.level.as_str()), ("cart", "warn"));
        assert_eq!(careful.invocation.as_deref(), Some("0000000000000007"));
        assert_eq!(careful.holder, stage.function("cart").replicas[0].holder);
    });
}

#[test]
fn a_fault_is_told_with_names_and_counted() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "faults", ""), ("catalog", "echo", "")]).await.unwrap();
        let failed = stage.call("cart").await;
        assert!(matches!(failed, Err(InvokeError::Function { status: 500, .. })), "{failed:?}");
        stage.until("nobody told", || stage.said("it overran its stack") == 1).await;
        let lines = stage.lines();
        let errors = lines.iter().filter(|line| line.function == "cart" && line.level == "error");
        let told: Vec<&str> = errors.map(|line| line.message.as_str()).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        for (line, parts) in
            told.iter().zip([["it ", "stack"], ["at ", "(0x10)"], ["from ", "(0x20)"], ["from ", "(0x30)"]])
        {
            assert!(parts.iter().all(|part| line.contains(part)), "{told:?}");
        }
        let cart = stage.function("cart");
        assert_eq!((cart.calls, cart.errors, cart.faults, stage.restarts("cart")), (1, 1, 1, 0));
        stage.expect_echo("catalog").await;
    });
}

/// Fourteen functions are two cells. Calls between the two have edges, calls inside one have none.
#[test]
fn edges_join_cells_of_different_groups_only() {
    on_stage(async |stage| {
        let names: Vec<String> = (0..14).map(|number| format!("f{number}")).collect();
        // f0 calls everybody; whoever is not in its cell is called over an edge.
        let callees: Vec<String> = names.iter().skip(1).map(|name| format!("\"{name}\"")).collect();
        let calls = format!("calls = [{}]", callees.join(", "));
        let functions: Vec<(&str, &str, &str)> = names
            .iter()
            .enumerate()
            .map(|(number, name)| (name.as_str(), "echo", if number == 0 { calls.as_str() } else { "" }))
            .collect();
        stage.deploy(&functions).await.unwrap();
        let pid = |name: &str| stage.pids(name)[0];
        let with_f0 = names.iter().filter(|name| pid(name) == pid("f0")).count();
        assert_eq!(with_f0, 13, "as many as fit");
        stage.until("the edge has no two ends", || stage.said("edge ") == 2).await;
        for name in &names {
            stage.expect_echo(name).await;
        }
    });
}

#[test]
fn snapshots_outlive_the_node_and_are_checked() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("snapshots");
    let shop = [("cart", "echo", ""), ("catalog", "echo", "")];
    let files = {
        let directory = directory.clone();
        move || {
            let entries = std::fs::read_dir(&directory).unwrap().flatten();
            entries.map(|entry| entry.path()).filter(|path| !path.ends_with("secret")).collect::<Vec<_>>()
        }
    };
    on_stage_with(Some(directory.clone()), {
        let files = files.clone();
        async move |stage| {
            stage.deploy(&shop).await.unwrap();
            assert_eq!(stage.said("from its snapshot"), 0);
            stage.until("nothing is stored", || files().len() == 2).await;
        }
    });
    on_stage_with(Some(directory.clone()), async move |stage| {
        stage.deploy(&shop).await.unwrap();
        assert_eq!(stage.said("from its snapshot"), 2);
        stage.expect_echo("cart").await;
    });
    for file in files() {
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    on_stage_with(Some(directory), async move |stage| {
        stage.deploy(&shop).await.unwrap();
        assert_eq!(stage.said("its stored snapshot is not used"), 2);
        assert_eq!(stage.said("from its snapshot"), 0);
        stage.expect_echo("cart").await;
        stage.until("they are not stored anew", || files().len() == 2).await;
    });
}

#[test]
fn templates_get_files_and_snapshots_are_of_these_files_only() {
    let home = tempfile::tempdir().unwrap();
    let (directory, bundle) = (home.path().join("snapshots"), home.path().join("bundle"));
    for (content, from_snapshot, stored) in
        [("one", false, 1), ("one", true, 1), ("two", false, 2), ("one", true, 2)]
    {
        std::fs::write(&bundle, content).unwrap();
        let (bundle, kept) = (bundle.clone(), directory.clone());
        on_stage_with(Some(directory.clone()), async move |stage| {
            let mut spec = stage::app(&[("cart", "echo", "")]);
            spec.files.insert(
                spec.manifest.functions.keys().next().unwrap().clone(),
                BundledFiles { bundle, tree: None },
            );
            stage.flow.deploy(spec).await.unwrap();
            stage.expect_echo("cart").await;
            assert_eq!((stage.said("its files: "), stage.said(&format!("its files: {content}"))), (1, 1));
            assert_eq!(stage.function("cart").loaded.unwrap().from_snapshot, from_snapshot, "{content}");
            // The secret lies beside them.
            let count = || std::fs::read_dir(&kept).unwrap().count();
            stage.until("its snapshot is not stored", || count() == stored + 1).await;
        });
    }
}

#[test]
fn a_snapshot_that_its_template_refuses_is_forgotten() {
    let home = tempfile::tempdir().unwrap();
    let shop = [("cart", "echo", ""), ("catalog", "forgets", "")];
    let stored = {
        let directory = home.path().to_owned();
        move || std::fs::read_dir(&directory).unwrap().count() - 1
    };
    for round in 0..2 {
        let stored = stored.clone();
        on_stage_with(Some(home.path().to_owned()), async move |stage| {
            stage.deploy(&shop).await.unwrap();
            stage.expect_echo("cart").await;
            stage.expect_echo("catalog").await;
            assert_eq!(stage.said("its snapshot is not used: a snapshot of somebody else"), round);
            assert_eq!(stage.restarts("cart"), 0);
            stage.until("they are not stored anew", || stored() == 2).await;
        });
    }
}

#[test]
fn a_removed_app_leaves_no_process() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "echo", "scale = { min = 2, max = 2 }")]).await.unwrap();
        let cells = stage.pids("cart");
        let template = parent_of(cells[0]);
        assert!(stage.flow.remove("shop").await);
        assert!(!is_alive(template) && cells.iter().all(|cell| !is_alive(*cell)));
    });
}

#[test]
fn a_new_version_takes_over_from_cells_of_the_old_one() {
    on_stage(async |stage| {
        stage.deploy(&[("cart", "echo", "")]).await.unwrap();
        let old = stage.pids("cart")[0];
        stage.deploy(&[("cart", "talks", "")]).await.unwrap();
        assert_eq!(stage.call("cart").await.unwrap().status, 200);
        stage.until("the old cell lives on", || !is_alive(old)).await;
        assert_ne!(stage.pids("cart")[0], old);
    });
}
