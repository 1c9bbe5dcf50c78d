//! A program with forbidden encodings by chance, vetted, deployed, and called in the real `baton-cell`.
//!
//! Needs memory keys, Syscall User Dispatch and FSGSBASE; skipped loudly where they are missing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../cell/tests/cell/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use baton_catalog::Manifest;
use baton_control::vet;
use baton_flow::{AppSpec, DeployError, DirectCall, Flow, Options, Patch};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const MANIFEST: &str = "[app]\nname = \"shop\"\n[pool]\nsize = \"4MiB\"\n\
    [functions.chances]\nartifact = \"f\"\nisolation = \"compartment\"\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program in C that has them, as a function or as a program that prints what the function answers.
fn chances(directory: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let place = directory.join(name);
    let source = root().join("crates/control/src/artifacts/vet/tests/chances.c");
    let compiler = Command::new("gcc")
        .args(["-O2", "-static-pie", "-pthread", "-I"])
        .arg(root().join("sdk/c/include"))
        .args(flags)
        .arg("-o")
        .args([&place, &source])
        .output()
        .unwrap();
    assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
    place
}

fn app(executable: &Path, patches: &[Patch]) -> AppSpec {
    let manifest = Manifest::parse(MANIFEST, Path::new("baton.toml")).unwrap();
    let name = manifest.functions.keys().next().unwrap().clone();
    let artifacts = BTreeMap::from([(name.clone(), executable.to_owned())]);
    AppSpec {
        manifest,
        version: 1,
        artifacts,
        hosts: BTreeMap::new(),
        patches: BTreeMap::from([(name, patches.to_vec())]),
        files: BTreeMap::new(),
        secrets: BTreeMap::new(),
        here: None,
    }
}

/// Runs a test on a node with the real cell; says so if the machine cannot.
fn on_node<F: Future<Output = ()>>(test: impl FnOnce(Rc<Flow>) -> F) {
    let missing = baton_replica::probe::missing_for_cells();
    if !missing.is_empty() {
        println!("SKIP: cells need {missing:?}");
        return;
    }
    let cell_program = Some(program::cell_binary().to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let flow = Rc::new(Flow::new(Options { cell_program, ..Options::default() }));
        tokio::time::timeout(PATIENCE, test(Rc::clone(&flow))).await.expect("the node hangs");
        flow.stop().await;
    });
}

#[test]
fn a_rewritten_function_answers_in_a_compartment_what_it_computes_outside() {
    on_node(async |flow| {
        let directory = tempfile::tempdir().unwrap();
        let printed = Command::new(chances(directory.path(), "program", &[])).output().unwrap().stdout;
        let function = chances(directory.path(), "function", &["-DSERVE"]);
        let vetted = vet(&std::fs::read(&function).unwrap()).unwrap();
        flow.deploy(app(&function, &vetted.patches)).await.unwrap();
        let call = DirectCall { method: "GET".into(), path: "/".into(), ..DirectCall::default() };
        let reply = flow.invoke("shop", "chances", call).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&reply.body), String::from_utf8_lossy(&printed).trim_end());
    });
}

#[test]
fn the_cell_refuses_the_function_if_a_single_patch_is_missing() {
    on_node(async |flow| {
        let directory = tempfile::tempdir().unwrap();
        let function = chances(directory.path(), "function", &["-DSERVE"]);
        let vetted = vet(&std::fs::read(&function).unwrap()).unwrap();
        // Each detour begins with what takes the instruction's place.
        let (_, patches) = vetted.patches.split_first().unwrap();
        let refused = flow.deploy(app(&function, patches)).await;
        let Err(DeployError::NotReady { why, .. }) = refused else { panic!("{refused:?}") };
        assert!(why.contains("forbidden instruction"), "{why}");
    });
}
