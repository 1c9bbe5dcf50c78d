//! Members with stand-ins for their data planes, and a real server of NATS between them.

mod secrets;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use baton_catalog::AppName;
use baton_e2e::Nats;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep};

use super::*;
use crate::artifacts::ArtifactHash;
use crate::deploy::tests::{Fixture, deployment, hashes, manifest};
use crate::deploy::{DeployFault, Outcome, Submission};
use crate::limits::BUS_ARTIFACT_KEPT;
use crate::plane::Plane;

const SOON: Duration = Duration::from_secs(15);

struct Member {
    fixture: Fixture,
    cluster: Arc<Cluster>,
}

fn options(servers: &Nats, node: &str, incarnation: u64) -> ClusterOptions {
    let address = SocketAddr::from(([127, 0, 0, 1], 7000));
    ClusterOptions {
        servers: vec![servers.url()],
        cluster: "tests".to_owned(),
        node: node.to_owned(),
        incarnation,
        transfer: address,
        gateway: address,
        version: "1.2.3",
        cores: 2,
        memory: 1 << 30,
        credentials: None,
        tls: None,
        secrets: None,
    }
}

impl Member {
    async fn join(servers: &Nats, node: &str) -> Self {
        Self::join_with(Fixture::new(), servers, node).await
    }

    async fn join_with(fixture: Fixture, servers: &Nats, node: &str) -> Self {
        Self::join_as(fixture, options(servers, node, 1)).await
    }

    async fn join_as(fixture: Fixture, options: ClusterOptions) -> Self {
        let cluster = Cluster::open(options).await.unwrap();
        let fixture = fixture.in_cluster(&cluster);
        let plane: Arc<dyn Plane> = fixture.plane.clone();
        let entered = cluster.enter(&fixture.deployer, &plane).await.unwrap();
        assert!(entered.apart.is_none(), "{:?}", entered.apart);
        Self { fixture, cluster }
    }

    async fn deploy(&self, artifact: &[u8]) -> Result<Outcome, DeployFault> {
        self.fixture.deploy("shop", artifact).await
    }

    async fn runs(&self, version: u64) {
        until("the version runs", || async { self.fixture.running() == [("shop".to_owned(), version)] })
            .await;
    }

    async fn has_members(&self, names: &[&str]) {
        let known =
            || async { self.cluster.rows().iter().map(|row| row.name.as_str()).eq(names.iter().copied()) };
        until("the members are known", known).await;
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let late = Instant::now() + SOON;
    while !is_so().await {
        assert!(Instant::now() < late, "not so within {SOON:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

#[tokio::test]
async fn of_two_deployments_at_once_one_wins_and_the_other_is_told() {
    let Some(nats) = Nats::start() else { return };
    let (a, b) = (Member::join(&nats, "a").await, Member::join(&nats, "b").await);
    a.deploy(b"one").await.unwrap();
    b.runs(1).await;
    // Both have looked at what is there before either stores what it has.
    let line = Arc::new(Barrier::new(2));
    for member in [&a, &b] {
        *member.fixture.plane.start_line.lock().unwrap() = Some(Arc::clone(&line));
    }
    let (of_a, of_b) = tokio::join!(a.deploy(b"of a"), b.deploy(b"of b"));
    let (won, lost) = if of_a.is_ok() { (of_a, of_b) } else { (of_b, of_a) };
    assert!(matches!(won, Ok(Outcome::Running { version: 2, .. })), "{won:?}");
    let Err(DeployFault::Cluster(error @ ClusterError::Conflict { .. })) = lost else { panic!("{lost:?}") };
    assert!(error.to_string().contains("app shop"), "{error}");
    // The loser goes back to what it ran, then on to what won, and may try again.
    let placed = |member: &Member| {
        member.fixture.deployer.placed().get("shop").map(|placed| placed.deployment.clone())
    };
    until("both run what won", || async {
        placed(&a) == placed(&b) && placed(&a).is_some_and(|won| won.version == 2)
    })
    .await;
    a.runs(2).await;
    b.runs(2).await;
    assert!(matches!(a.deploy(b"again").await, Ok(Outcome::Running { version: 3, .. })));
    b.runs(3).await;
    let versions = b.cluster.versions(&shop()).await.unwrap();
    assert_eq!(versions.iter().map(|found| found.deployment.version).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn an_artifact_damaged_in_the_store_is_refused_until_it_is_brought_anew() {
    let Some(nats) = Nats::start() else { return };
    let a = Member::join(&nats, "a").await;
    a.deploy(b"as built").await.unwrap();
    let hash = ArtifactHash::of(b"as built");
    let store = a.cluster.bus.buckets().await.unwrap().artifacts;
    store.put(hash.to_string().as_str(), &mut &b"as forged"[..]).await.unwrap();
    let b = Member::join(&nats, "b").await;
    assert!(b.fixture.running().is_empty());
    let failed = b.fixture.deployer.failed();
    assert!(
        failed.iter().any(|failed| failed.app == "shop" && failed.error.contains("is damaged")),
        "{failed:?}"
    );
    // The others are told, and go on.
    a.has_members(&["a", "b"]).await;
    let part =
        |rows: &[Row]| rows.iter().find(|row| row.name == "b").and_then(|row| row.apps.get("shop").cloned());
    until("b tells why", || async {
        part(&a.cluster.rows()).is_some_and(|part| part.version.is_none() && part.error.is_some())
    })
    .await;
    assert_eq!(a.fixture.running(), [("shop".to_owned(), 1)]);
    // Deployed again nothing changes but that.
    assert_eq!(a.deploy(b"as built").await.unwrap(), Outcome::Unchanged { version: 1 });
    b.runs(1).await;
    assert!(b.fixture.deployer.failed().is_empty());
}

#[tokio::test]
async fn a_node_that_cannot_run_a_version_keeps_the_one_before_and_says_so() {
    let Some(nats) = Nats::start() else { return };
    let (a, b) = (Member::join(&nats, "a").await, Member::join(&nats, "b").await);
    a.deploy(b"one").await.unwrap();
    b.runs(1).await;
    b.fixture.plane.refuse.store(true, Ordering::Relaxed);
    a.deploy(b"two").await.unwrap();
    until("b has tried", || async { !b.fixture.deployer.failed().is_empty() }).await;
    assert_eq!(b.fixture.running(), [("shop".to_owned(), 1)]);
    until("a knows", || async {
        let report = a.cluster.report().await;
        let parts: BTreeMap<_, _> = report.apps[0]
            .nodes
            .iter()
            .map(|part| (part.node.as_str(), (part.version, !part.error.is_empty())))
            .collect();
        parts == BTreeMap::from([("a", (Some(2), false)), ("b", (Some(1), true))])
    })
    .await;
    // What a node deploys and cannot run is nobody's version.
    assert!(matches!(b.deploy(b"three").await, Err(DeployFault::Refused(_))));
    assert_eq!(a.cluster.find(&shop()).await.unwrap().version, 2);
    b.fixture.plane.refuse.store(false, Ordering::Relaxed);
    b.runs(2).await;
}

#[tokio::test]
async fn the_data_plane_is_told_of_other_nodes_and_what_they_host() {
    let Some(nats) = Nats::start() else { return };
    let (a, b) = (Member::join(&nats, "a").await, Member::join(&nats, "b").await);
    a.deploy(b"one").await.unwrap();
    until("a's data plane knows b", || async {
        let hosts = a.fixture.plane.hosts.lock().unwrap().clone();
        let of: Vec<_> =
            hosts.of("shop", "hello").iter().map(|host| (host.node.as_str(), host.version)).collect();
        hosts.peers.keys().eq(["b"]) && of == [("b", 1)]
    })
    .await;
    b.cluster.leave().await;
    until("b is gone", || async { a.fixture.plane.hosts.lock().unwrap().peers.is_empty() }).await;
}

#[tokio::test]
async fn a_node_that_drains_keeps_its_routes_and_gives_its_functions_away() {
    let Some(nats) = Nats::start() else { return };
    let (a, b) = (Member::join(&nats, "a").await, Member::join(&nats, "b").await);
    a.deploy(b"one").await.unwrap();
    b.runs(1).await;
    let here = |member: &Member| member.fixture.plane.here.lock().unwrap().as_ref().map(|here| here.len());
    assert_eq!(here(&b), Some(1));
    a.cluster.drain("b", true).await.unwrap();
    a.cluster.drain("b", true).await.unwrap();
    until("b hosts nothing", || async { here(&b) == Some(0) }).await;
    assert_eq!((here(&a), b.fixture.running().len()), (Some(1), 1));
    a.cluster.drain("b", false).await.unwrap();
    until("b hosts it again", || async { here(&b) == Some(1) }).await;
    let error = a.cluster.drain("nobody", true).await.unwrap_err();
    assert!(matches!(error, ClusterError::NoNode { .. }), "{error}");
}

#[tokio::test]
async fn a_store_that_lost_its_disk_is_filled_again_and_nothing_ends() {
    let Some(mut nats) = Nats::start() else { return };
    let (a, b) = (Member::join(&nats, "a").await, Member::join(&nats, "b").await);
    a.deploy(b"one").await.unwrap();
    b.runs(1).await;
    nats.kill();
    nats.forget();
    nats.restart();
    until("the deployment is there again", || async {
        a.cluster.find(&shop()).await.is_ok_and(|found| found.version == 1)
    })
    .await;
    let (late, again) = (Member::join(&nats, "c").await, b.deploy(b"two").await.unwrap());
    assert_eq!(again, Outcome::Running { version: 2, replicas: 1 });
    for member in [&a, &late] {
        member.runs(2).await;
    }
}

#[tokio::test]
async fn a_sweep_of_the_store_leaves_what_a_kept_version_names_and_what_is_new() {
    let Some(nats) = Nats::start() else { return };
    let a = Member::join(&nats, "a").await;
    a.deploy(b"one").await.unwrap();
    a.deploy(b"two").await.unwrap();
    let store = a.cluster.bus.buckets().await.unwrap().artifacts;
    let stray = ArtifactHash::of(b"stray").to_string();
    store.put(stray.as_str(), &mut &b"stray"[..]).await.unwrap();
    store.put("another program's", &mut &b"thing"[..]).await.unwrap();
    // Ages are counted in whole seconds.
    sleep(Duration::from_millis(2100)).await;
    assert_eq!(a.cluster.sweep_store(BUS_ARTIFACT_KEPT).await.unwrap(), 0, "all are new");
    assert_eq!(a.cluster.sweep_store(Duration::ZERO).await.unwrap(), 1);
    assert!(store.info(&stray).await.is_ok_and(|info| info.deleted));
    for kept in [ArtifactHash::of(b"one").to_string(), ArtifactHash::of(b"two").to_string()] {
        assert!(store.info(&kept).await.is_ok_and(|info| !info.deleted), "{kept}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_ends_nothing() {
    let Some(nats) = Nats::start() else { return };
    let (a, b) = (Member::join(&nats, "a").await, Member::join(&nats, "b").await);
    a.deploy(b"one").await.unwrap();
    b.runs(1).await;
    let store = a.cluster.bus.buckets().await.unwrap().wanted;
    store.put("app.shop", "of a later version".into()).await.unwrap();
    store.put("app.other", serde_json::to_vec(&deployment("shop", 9, b"x")).unwrap().into()).await.unwrap();
    until("b says that it cannot", || async { b.fixture.deployer.failed().len() == 2 }).await;
    assert_eq!(b.fixture.running(), [("shop".to_owned(), 1)]);
    // It can be replaced, and its number is not used twice.
    assert!(matches!(a.deploy(b"two").await, Ok(Outcome::Running { version: 2, .. })));
    b.runs(2).await;
}

#[tokio::test]
async fn what_is_too_large_for_a_row_is_told_with_both_sizes() {
    let Some(nats) = Nats::start() else { return };
    let a = Member::join(&nats, "a").await;
    a.fixture.upload(b"one");
    let mut large = manifest("shop");
    for function in large.functions.values_mut() {
        function.env = (0..40).map(|n| (format!("V{n}"), "x".repeat(32 << 10))).collect();
    }
    let fault =
        a.fixture.deployer.deploy(Submission::new(large, hashes(b"one"), BTreeMap::new())).await.unwrap_err();
    let text = fault.to_string();
    assert!(text.contains("app shop takes") && text.contains("takes 1024 KiB"), "{text}");
    assert!(a.fixture.running().is_empty(), "what could not be stored does not run");
}

#[tokio::test]
async fn a_name_is_one_nodes_and_a_dead_nodes_name_is_waited_for() {
    let Some(nats) = Nats::start() else { return };
    let a = Member::join(&nats, "a").await;
    let second = Cluster::open(options(&nats, "a", 2)).await.unwrap();
    until("it is connected", || async { second.bus.is_connected() }).await;
    let taken = second.claim().await.unwrap_err();
    assert!(matches!(taken, ClusterError::NameTaken { .. }), "{taken}");
    // A row that nobody renews, as after a crash.
    let dead = Row { name: "b".to_owned(), incarnation: 7, ..a.cluster.bare_row() };
    a.cluster.bus.put_member("b", serde_json::to_vec(&dead).unwrap().into()).await.unwrap();
    let next = Cluster::open(options(&nats, "b", 8)).await.unwrap();
    until("it is connected", || async { next.bus.is_connected() }).await;
    let begun = Instant::now();
    next.claim().await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(4500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_the_store_changes_are_refused_and_a_restart_serves_what_it_knew() {
    let Some(mut nats) = Nats::start() else { return };
    let a = Member::join(&nats, "a").await;
    a.deploy(b"one").await.unwrap();
    nats.kill();
    until("it is noticed", || async { !a.cluster.bus.is_connected() }).await;
    let fault = a.deploy(b"two").await.unwrap_err();
    let DeployFault::Cluster(error @ ClusterError::Unreachable { .. }) = fault else { panic!("{fault}") };
    assert!(error.to_string().contains(&nats.url()), "{error}");
    assert!(matches!(a.fixture.deployer.remove("shop").await, Err(DeployFault::Cluster(_))));
    assert_eq!(a.fixture.running(), [("shop".to_owned(), 1)]);
    // The tasks of the first start still have its deployer: the next one is another directory's that knows the same.
    let fixture = Fixture::new();
    fixture.deploy("shop", b"one").await.unwrap();
    let cluster = Cluster::open(options(&nats, "b", 1)).await.unwrap();
    let fixture = fixture.in_cluster(&cluster);
    fixture.plane.apps.lock().unwrap().clear();
    let plane: Arc<dyn Plane> = fixture.plane.clone();
    let entered = cluster.enter(&fixture.deployer, &plane).await.unwrap();
    assert!(matches!(entered.apart, Some(ClusterError::Unreachable { .. })));
    assert_eq!(fixture.running(), [("shop".to_owned(), 1)]);
    nats.restart();
    let b = Member { fixture, cluster };
    for member in [&a, &b] {
        member.has_members(&["a", "b"]).await;
    }
    b.deploy(b"two").await.unwrap();
    a.runs(2).await;
}
