//! Versions against a stand-in for the data plane.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use baton_catalog::{AppName, Canary, Percent, Rollback};

use super::super::tests::{Fixture, hashes, manifest};
use super::super::{Outcome, Submission, Wish};
use super::*;
use crate::deploy::RolloutError;

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

fn percent(percent: u16) -> Percent {
    Percent::from_hundredths(percent * 100).unwrap()
}

async fn deploy(fixture: &Fixture, artifact: &[u8], wish: Wish) -> Result<Outcome, DeployFault> {
    fixture.upload(artifact);
    let new = Submission::new(manifest("shop"), hashes(artifact), BTreeMap::new());
    fixture.deployer.deploy(Submission { wish, ..new }).await
}

fn canary(share: u16) -> Wish {
    Wish { canary: Some(Canary { share: percent(share), sticky: None }), rollback: None }
}

/// Who leads, and who stands beside with how many percent, as the data plane was told.
fn traffic(fixture: &Fixture) -> (u64, Option<(u64, u16)>) {
    let traffic = fixture.plane.traffic.lock().unwrap().get("shop").cloned().unwrap();
    (traffic.leading, traffic.next.map(|next| (next.version, next.share.hundredths() / 100)))
}

fn starts(fixture: &Fixture) -> u64 {
    fixture.plane.starts.load(Ordering::Relaxed)
}

async fn change(fixture: &Fixture, change: Change) -> Result<u64, DeployFault> {
    fixture.deployer.change(&shop(), change).await.map(|row| row.version)
}

#[tokio::test]
async fn a_canary_is_promoted_and_a_promoted_version_is_gone_back_from() {
    let fixture = Fixture::new();
    deploy(&fixture, b"a", Wish::default()).await.unwrap();
    let outcome = deploy(&fixture, b"b", canary(10)).await.unwrap();
    assert_eq!(outcome, Outcome::Beside { version: 2, replicas: 1, before: 1, share: percent(10) });
    assert_eq!(traffic(&fixture), (1, Some((2, 10))));
    // The same again with another share starts nothing.
    deploy(&fixture, b"b", canary(30)).await.unwrap();
    assert_eq!((traffic(&fixture), starts(&fixture)), ((1, Some((2, 30))), 2));
    assert_eq!(deploy(&fixture, b"b", canary(30)).await.unwrap(), Outcome::Unchanged { version: 2 });
    change(&fixture, Change::Promote).await.unwrap();
    assert_eq!((traffic(&fixture), starts(&fixture)), ((2, None), 2), "what runs takes over at once");
    assert!(matches!(
        change(&fixture, Change::Promote).await,
        Err(DeployFault::Rollout(RolloutError::NoCanary { .. }))
    ));
    change(&fixture, Change::Rollback { to: None }).await.unwrap();
    assert_eq!(
        (traffic(&fixture), starts(&fixture)),
        ((1, None), 3),
        "what does not run starts from what is stored"
    );
    // Numbers go on.
    assert_eq!(
        deploy(&fixture, b"c", Wish::default()).await.unwrap(),
        Outcome::Running { version: 3, replicas: 1 }
    );
    let kept: Vec<u64> =
        fixture.deployer.kept(&shop()).await.unwrap().iter().map(|kept| kept.deployment.version).collect();
    assert_eq!(kept, [1, 2, 3]);
}

#[tokio::test]
async fn a_split_survives_a_restart_and_one_half_of_it_the_other() {
    let fixture = Fixture::new();
    deploy(&fixture, b"a", Wish::default()).await.unwrap();
    deploy(&fixture, b"b", canary(10)).await.unwrap();
    let fixture = fixture.restart();
    fixture.deployer.restore(&[]).await.unwrap();
    assert_eq!(traffic(&fixture), (1, Some((2, 10))));
    for (broken, left) in [(2, 1), (1, 2)] {
        let again = fixture.copied();
        again.plane.broken.store(broken, Ordering::Relaxed);
        let restored = again.deployer.restore(&[]).await.unwrap();
        assert!(restored[0].result.is_err());
        assert_eq!(traffic(&again), (left, None), "one half that fails does not take the other with it");
        assert_eq!(again.deployer.failed().len(), 1);
    }
}

#[tokio::test]
async fn what_does_not_start_changes_nothing_and_is_told() {
    let fixture = Fixture::new();
    deploy(&fixture, b"a", Wish::default()).await.unwrap();
    fixture.plane.broken.store(2, Ordering::Relaxed);
    assert!(matches!(deploy(&fixture, b"b", canary(10)).await, Err(DeployFault::Refused(_))));
    assert_eq!(traffic(&fixture), (1, None));
    let refusals = fixture.deployer.refusals();
    assert_eq!((refusals.len(), refusals[0].version), (1, 2));
    assert!(refusals[0].error.contains("it died at its start"));
    fixture.plane.broken.store(0, Ordering::Relaxed);
    deploy(&fixture, b"b", Wish::default()).await.unwrap();
    assert!(fixture.deployer.refusals().is_empty());
}

#[tokio::test]
async fn wrong_changes_are_refused() {
    let fixture = Fixture::new();
    assert!(matches!(change(&fixture, Change::Promote).await, Err(DeployFault::NoApp { .. })));
    deploy(&fixture, b"a", Wish::default()).await.unwrap();
    let unknown = change(&fixture, Change::Rollback { to: Some(7) }).await;
    assert!(matches!(unknown, Err(DeployFault::Rollout(RolloutError::Unknown { version: 7, .. }))));
    let none = change(&fixture, Change::Rollback { to: None }).await;
    assert!(matches!(none, Err(DeployFault::Rollout(RolloutError::NoOlder { .. }))));
}

#[tokio::test]
async fn at_most_so_many_versions_are_kept_with_their_artifacts() {
    let fixture = Fixture::new();
    for number in 0..13_u8 {
        deploy(&fixture, &[number], Wish::default()).await.unwrap();
    }
    let kept = fixture.deployer.kept(&shop()).await.unwrap();
    let numbers: Vec<u64> = kept.iter().map(|kept| kept.deployment.version).collect();
    assert_eq!(numbers, (4..=13).collect::<Vec<_>>());
    let files = std::fs::read_dir(fixture.dir.path().join("artifacts")).unwrap().count();
    assert_eq!(files, 10);
}

/// Waits until the watch has done something; the clock of the test runs by itself.
async fn until(fixture: &Fixture, expect: (u64, Option<(u64, u16)>)) {
    for _ in 0..10_000 {
        if traffic(fixture) == expect {
            return;
        }
        // The store's work is done by other threads, which this clock does not drive.
        std::thread::sleep(Duration::from_millis(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?} and not {expect:?}", traffic(fixture));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_fails_is_undone_with_the_reason() {
    let fixture = Fixture::new();
    deploy(&fixture, b"a", Wish::default()).await.unwrap();
    deploy(&fixture, b"b", canary(10)).await.unwrap();
    let watch = tokio::spawn(Arc::clone(&fixture.deployer).watch());
    *fixture.plane.answered.lock().unwrap() = BTreeMap::from([(1, (0, 0)), (2, (0, 0))]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    *fixture.plane.answered.lock().unwrap() = BTreeMap::from([(1, (1000, 10)), (2, (100, 7))]);
    until(&fixture, (1, None)).await;
    let row = fixture.deployer.deployed(&shop()).await.unwrap();
    let undone = row.undone.unwrap();
    assert_eq!(undone.version, 2);
    assert!(
        undone.why.contains("7 of 100 requests failed (7.00%) where 1.00% did with version 1"),
        "{}",
        undone.why
    );
    let kept = fixture.deployer.kept(&shop()).await.unwrap();
    assert!(kept[1].undone.as_ref().is_some_and(|why| why.contains("7 of 100")));
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_watched_version_takes_over_once_its_window_is_over() {
    let fixture = Fixture::new();
    deploy(&fixture, b"a", Wish::default()).await.unwrap();
    let watched = Wish { canary: None, rollback: Some(Rollback::default()) };
    let outcome = deploy(&fixture, b"b", watched).await.unwrap();
    assert_eq!(outcome, Outcome::Beside { version: 2, replicas: 1, before: 1, share: Percent::ALL });
    let watch = tokio::spawn(Arc::clone(&fixture.deployer).watch());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(traffic(&fixture), (1, Some((2, 100))));
    until(&fixture, (2, None)).await;
    watch.abort();
}
