//! What starting processes leaves behind in the node and on the machine: nothing, even if the node is killed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod guest;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use baton_replica::{Limits, probe};
use guest::{c_guest, eventually, run, start};

/// Set in a process that plays the node and gets killed.
const NODE: &str = "BATON_TEST_PLAYS_NODE";

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The control groups of a node, in all hierarchies, wherever the test itself is.
fn groups_of(node: u32) -> Vec<PathBuf> {
    let directory = format!("baton-{node}");
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(here).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_str() == Some(&directory) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

fn children_of(node: u32) -> String {
    let mut all = String::new();
    for task in fs::read_dir(format!("/proc/{node}/task")).unwrap().flatten() {
        all += &fs::read_to_string(task.path().join("children")).unwrap_or_default();
    }
    all
}

/// Tests run side by side in one process, and what they count is the process's: one after the other, then.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_hundred_processes_leave_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(program) = c_guest() else { return };
    let own_groups = probe().memory_groups.available;
    let bounded = |spec: &mut baton_replica::SpawnSpec| {
        spec.limits = Limits { cpu: Some(1.0), ..Limits::default() };
    };
    run(program, &["exit", "0"], bounded);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let descriptors = open_descriptors();

    let mut held = start(program, &["sleep"], bounded).unwrap();
    held.ready();
    assert_eq!(groups_of(std::process::id()).is_empty(), !own_groups);
    let mut took_us = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        let guest = start(program, &["exit", "0"], bounded).unwrap();
        took_us.push(begun.elapsed().as_micros());
        guest.finish();
    }
    took_us.sort_unstable();
    println!("start: p50 {} us, p90 {} us, max {} us", took_us[50], took_us[90], took_us[99]);
    drop(held);

    assert_eq!(open_descriptors(), descriptors);
    assert_eq!(children_of(std::process::id()), "");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    eventually("control groups remain", || groups_of(std::process::id()).is_empty());
}

/// Plays the node for the next test; as a test of its own it does nothing.
#[test]
fn plays_node() {
    let Some(role) = std::env::var_os(NODE) else { return };
    let Some(program) = c_guest() else { return };
    if role == "next" {
        run(program, &["exit", "0"], |_| {});
        return;
    }
    let mut guest = start(program, &["sleep"], |_| {}).unwrap();
    let mut bare = start(program, &["sleep"], |spec| spec.insecure_no_sandbox = true).unwrap();
    guest.ready();
    bare.ready();
    println!("\nguests {} {}", guest.pid(), bare.pid());
    std::thread::sleep(std::time::Duration::from_secs(60));
}

/// Runs this test binary again, in the part of a node.
fn node(role: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "plays_node", "--nocapture", "--test-threads=1"])
        .env(NODE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_node_leaves_no_orphans() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if c_guest().is_none() {
        return;
    }
    let mut killed = node("killed");
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("guests ")).expect("guests start");
    let guests: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
    assert_eq!(guests.len(), 2);
    for guest in &guests {
        assert!(runs(guest), "{guest} runs");
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    eventually("the guests outlive their node", || !guests.iter().any(|guest| runs(guest)));
    // Control groups stay until the next node tidies up.
    assert!(node("next").wait().unwrap().success());
    assert_eq!(groups_of(killed.id()), Vec::<PathBuf>::new());
}

/// Whether a process exists and is not merely waiting to be reaped.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z") && !rest.starts_with(" X"))
}
