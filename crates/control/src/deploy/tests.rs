//! Deployments against a stand-in for the data plane.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use baton_catalog::Isolation;
use baton_catalog::policy::AppPolicies;
use baton_flow::status::{
    AppStatus, CapabilityRow, LogLine, Observed, PoolStatus, Receipt, ScaleStatus, Totals, VersionStatus,
};
use baton_flow::{
    AppSpec, DeployError, DirectCall, DirectParts, DirectReply, Hosts, InvokeError, ScaleError, Traffic,
};
use baton_flow::{PolicyError, PolicyStatus};
use tempfile::TempDir;

use super::*;
use crate::artifacts::ArtifactError;
use crate::events::Events;
use crate::modules::Programs;
use crate::modules::tests::Stand;
use crate::plane::Answer;
use crate::protocol::ScaleWish;

pub(crate) fn manifest(app: &str) -> Manifest {
    let text = format!(
        "[app]\nname = \"{app}\"\n[functions.hello]\nartifact = \"hello\"\n[[routes]]\npath = \"/\"\nmethods = [\"GET\"]\nfunction = \"hello\"\n"
    );
    Manifest::parse(&text, Path::new("baton.toml")).unwrap()
}

pub(crate) fn deployment(app: &str, version: u64, artifact: &[u8]) -> Deployment {
    Deployment::new(manifest(app), version, hashes(artifact), BTreeMap::new())
}

pub(crate) fn hashes(artifact: &[u8]) -> BTreeMap<FunctionName, ArtifactHash> {
    BTreeMap::from([(FunctionName::new("hello").unwrap(), ArtifactHash::of(artifact))])
}

mod stub;

pub(crate) use self::stub::Stub;

pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) plane: Arc<Stub>,
    pub(crate) deployer: Arc<Deployer>,
    pub(crate) programs: Programs,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let gone = |name| Path::new("/nowhere").join(name);
        Self::with(Programs {
            compiler: gone(Programs::COMPILER),
            host: gone(Programs::HOST),
            component_host: gone(Programs::COMPONENT_HOST),
        })
    }

    fn with(programs: Programs) -> Self {
        Self::at(tempfile::tempdir().unwrap(), programs)
    }

    pub(crate) fn at(dir: TempDir, programs: Programs) -> Self {
        let plane = Arc::new(Stub::default());
        let deployer = Arc::new(Self::deployer(&dir, &programs, plane.clone()));
        Self { dir, plane, deployer, programs }
    }

    /// The same node as a member of a cluster.
    pub(crate) fn in_cluster(self, cluster: &Arc<Cluster>) -> Self {
        drop(self.deployer);
        let deployer = Self::deployer(&self.dir, &self.programs, self.plane.clone());
        Self { deployer: Arc::new(deployer.in_cluster(Arc::clone(cluster))), ..self }
    }

    pub(crate) fn deployer(dir: &TempDir, programs: &Programs, plane: Arc<Stub>) -> Deployer {
        let store = Store::open(&dir.path().join("state.redb")).unwrap();
        let artifacts = Arc::new(Artifacts::open(&dir.path().join("artifacts")).unwrap());
        let trees = Trees::open(&dir.path().join("files")).unwrap();
        let modules = Modules::open(&dir.path().join("wasm"), programs.clone()).unwrap();
        Deployer::new(plane, store, artifacts, trees, modules)
    }

    pub(crate) fn events(&self) -> Arc<Events> {
        let path = self.dir.path().join("events.redb");
        Events::open(&path, self.plane.clone(), Arc::clone(&self.deployer)).unwrap()
    }

    pub(crate) fn restart(self) -> Self {
        drop(self.deployer);
        Self::at(self.dir, self.programs)
    }

    pub(crate) fn upload(&self, bytes: &[u8]) {
        let mut incoming = self.deployer.artifacts().receive(ArtifactHash::of(bytes)).unwrap();
        incoming.write(bytes).unwrap();
        incoming.finish().unwrap();
    }

    pub(crate) async fn deploy(&self, app: &str, artifact: &[u8]) -> Result<Outcome, DeployFault> {
        self.upload(artifact);
        self.deployer.deploy(Submission::new(manifest(app), hashes(artifact), BTreeMap::new())).await
    }

    pub(crate) fn running(&self) -> Vec<(String, u64)> {
        self.plane.apps.lock().unwrap().clone().into_iter().collect()
    }

    fn artifact_files(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("artifacts")).unwrap().count()
    }
}

fn shop(version: u64) -> Vec<(String, u64)> {
    vec![("shop".to_owned(), version)]
}

#[tokio::test]
async fn versions_count_up_and_the_same_again_is_left_alone() {
    let fixture = Fixture::new();
    assert_eq!(fixture.deploy("shop", b"a").await.unwrap(), Outcome::Running { version: 1, replicas: 1 });
    assert_eq!(fixture.deploy("shop", b"a").await.unwrap(), Outcome::Unchanged { version: 1 });
    assert_eq!(fixture.deploy("shop", b"b").await.unwrap(), Outcome::Running { version: 2, replicas: 1 });
    assert_eq!(fixture.running(), shop(2));
    assert_eq!(fixture.artifact_files(), 2, "the first version is kept to go back to");
}

#[tokio::test]
async fn a_restart_brings_back_what_ran() {
    let fixture = Fixture::new();
    fixture.deploy("shop", b"a").await.unwrap();
    fixture.deploy("shop", b"b").await.unwrap();
    let fixture = fixture.restart();
    let restored = fixture.deployer.restore(&[]).await.unwrap();
    assert!(matches!(restored.as_slice(), [Restored { result: Ok(2), .. }]));
    assert_eq!(fixture.running(), shop(2));
    // Deployed instead of restored, the same is the same version.
    let fixture = fixture.restart();
    assert_eq!(fixture.deploy("shop", b"b").await.unwrap(), Outcome::Running { version: 2, replicas: 1 });
    assert_eq!(fixture.deploy("shop", b"c").await.unwrap(), Outcome::Running { version: 3, replicas: 1 });
}

#[tokio::test]
async fn one_app_that_fails_does_not_stop_the_others() {
    let fixture = Fixture::new();
    fixture.deploy("shop", b"a").await.unwrap();
    fixture.deploy("late", b"l").await.unwrap();
    let files = fixture.deployer.files.clone();
    files.store.put(&deployment("broken", 1, b"a")).unwrap();
    files.store.put(&deployment("absent", 1, b"never uploaded")).unwrap();
    drop(files);
    let fixture = fixture.restart();
    let restored = fixture.deployer.restore(&[AppName::new("late").unwrap()]).await.unwrap();
    let failed: Vec<_> = restored.iter().filter(|r| r.result.is_err()).map(|r| r.app.as_str()).collect();
    assert_eq!(failed, ["absent", "broken"]);
    assert_eq!(fixture.running(), shop(1));
    assert_eq!(fixture.deployer.failed().len(), 2);
    assert!(fixture.deployer.remove("absent").await.unwrap());
    assert_eq!(fixture.deployer.failed().len(), 1);
}

#[tokio::test]
async fn a_refused_version_changes_nothing() {
    let fixture = Fixture::new();
    fixture.deploy("shop", b"a").await.unwrap();
    fixture.plane.refuse.store(true, Ordering::Relaxed);
    assert!(matches!(fixture.deploy("shop", b"b").await, Err(DeployFault::Refused(_))));
    assert_eq!(fixture.running(), shop(1));
    let fixture = fixture.restart();
    fixture.deployer.restore(&[]).await.unwrap();
    assert_eq!(fixture.running(), shop(1));
}

#[tokio::test]
async fn artifacts_must_match_the_manifest() {
    let fixture = Fixture::new();
    let result =
        fixture.deployer.deploy(Submission::new(manifest("shop"), BTreeMap::new(), BTreeMap::new())).await;
    assert!(matches!(result, Err(DeployFault::NoArtifact { .. })));
    let result =
        fixture.deployer.deploy(Submission::new(manifest("shop"), hashes(b"nowhere"), BTreeMap::new())).await;
    assert!(matches!(result, Err(DeployFault::Artifact { source: ArtifactError::Missing { .. }, .. })));
    let mut stray = hashes(b"a");
    stray.insert(FunctionName::new("stray").unwrap(), ArtifactHash::of(b"a"));
    let result = fixture.deployer.deploy(Submission::new(manifest("shop"), stray, BTreeMap::new())).await;
    assert!(matches!(result, Err(DeployFault::StrayArtifact { .. })));
}

/// An app whose function has files.
fn with_files(isolation: Isolation) -> Manifest {
    let mut manifest = manifest("shop");
    for function in manifest.functions.values_mut() {
        function.files = Some("data".into());
        function.isolation = isolation;
    }
    manifest
}

fn bundle(content: &[u8]) -> Vec<u8> {
    let mut bytes = baton_cell::bundle::head(&[("greeting", content.len() as u64)]).unwrap();
    bytes.extend_from_slice(content);
    bytes
}

#[tokio::test]
async fn files_are_another_version_and_are_there_for_processes() {
    let fixture = Fixture::new();
    fixture.upload(b"a");
    let deploy = async |content: &[u8]| {
        let bundle = bundle(content);
        fixture.upload(&bundle);
        fixture
            .deployer
            .deploy(Submission::new(with_files(Isolation::Process), hashes(b"a"), hashes(&bundle)))
            .await
            .unwrap()
    };
    let greeting = || {
        let tree = fixture.plane.trees.lock().unwrap().clone().unwrap();
        std::fs::read(tree.join("greeting")).unwrap()
    };
    assert_eq!(deploy(b"hello").await, Outcome::Running { version: 1, replicas: 1 });
    assert_eq!(greeting(), b"hello");
    assert_eq!(deploy(b"hello").await, Outcome::Unchanged { version: 1 });
    assert_eq!(deploy(b"goodbye").await, Outcome::Running { version: 2, replicas: 1 });
    assert_eq!(greeting(), b"goodbye");
    assert_eq!(fixture.artifact_files(), 3, "the executable, the bundle of now and the one before");
    let fixture = fixture.restart();
    let restored = fixture.deployer.restore(&[]).await.unwrap();
    assert!(matches!(restored.as_slice(), [Restored { result: Ok(2), .. }]), "{restored:?}");
    assert!(fixture.deployer.remove("shop").await.unwrap());
    assert_eq!(fixture.artifact_files(), 0);
}

#[tokio::test]
async fn bundles_must_match_the_manifest_and_be_bundles() {
    let fixture = Fixture::new();
    fixture.upload(b"a");
    let deploy = async |manifest: Manifest, files: &[&[u8]]| {
        let files = files.iter().flat_map(|bytes| hashes(bytes)).collect();
        fixture.deployer.deploy(Submission::new(manifest, hashes(b"a"), files)).await
    };
    let files = with_files(Isolation::Process);
    assert!(matches!(deploy(files.clone(), &[]).await, Err(DeployFault::NoFiles { .. })));
    assert!(matches!(deploy(manifest("shop"), &[b"a"]).await, Err(DeployFault::StrayFiles { .. })));
    assert!(matches!(deploy(files.clone(), &[b"none"]).await, Err(DeployFault::Artifact { .. })));
    assert!(matches!(deploy(files, &[b"a"]).await, Err(DeployFault::Files { .. })));
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn what_no_compartment_may_run_is_refused_before_anything_starts() {
    let fixture = Fixture::new();
    fixture.upload(b"no executable");
    let mut in_compartment = manifest("shop");
    for function in in_compartment.functions.values_mut() {
        function.isolation = Isolation::Compartment;
    }
    let result = fixture
        .deployer
        .deploy(Submission::new(in_compartment, hashes(b"no executable"), BTreeMap::new()))
        .await;
    let Err(DeployFault::Unfit { function, source }) = result else { panic!("{result:?}") };
    assert_eq!(function.as_str(), "hello");
    assert!(!source.remedy().is_empty());
    assert!(fixture.running().is_empty());
}

#[tokio::test]
async fn removing_forgets_app_and_artifacts() {
    let fixture = Fixture::new();
    fixture.deploy("shop", b"a").await.unwrap();
    assert!(fixture.deployer.remove("shop").await.unwrap());
    assert!(!fixture.deployer.remove("shop").await.unwrap());
    assert_eq!(fixture.artifact_files(), 0);
    let fixture = fixture.restart();
    assert!(fixture.deployer.restore(&[]).await.unwrap().is_empty());
}

fn wasm_manifest(memory: &str) -> Manifest {
    let text = format!(
        "[app]\nname = \"shop\"\n[functions.hello]\nartifact = \"hello.wasm\"\nisolation = \"wasm\"\nmemory = \"{memory}\"\n"
    );
    Manifest::parse(&text, Path::new("baton.toml")).unwrap()
}

#[tokio::test]
async fn a_module_is_compiled_for_its_deployment_and_kept_for_the_next_start() {
    const MODULE: &[u8] = b"\0asm";
    let stand = Stand::new(MODULE, 2 << 20);
    let fixture = Fixture::with(stand.programs());
    fixture.upload(MODULE);
    fixture.deployer.compile(stand.hash).await.unwrap();
    assert_eq!(stand.runs(), 1);
    let refused = fixture
        .deployer
        .deploy(Submission::new(wasm_manifest("1MiB"), hashes(MODULE), BTreeMap::new()))
        .await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("hello") && text.contains("2MiB") && text.contains("raise"), "{text}");
    let outcome = fixture
        .deployer
        .deploy(Submission::new(wasm_manifest("64MiB"), hashes(MODULE), BTreeMap::new()))
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Running { version: 1, replicas: 1 });
    let fixture = fixture.restart();
    let restored = fixture.deployer.restore(&[]).await.unwrap();
    assert!(restored.iter().all(|one| one.result.is_ok()), "{restored:?}");
    assert_eq!(stand.runs(), 1, "what is kept is found");
    fixture.deployer.remove("shop").await.unwrap();
    let kept = std::fs::read_dir(fixture.dir.path().join("wasm")).unwrap().count();
    assert_eq!(kept, 3, "the secret, the program, and what was compiled a moment ago");
}

#[tokio::test]
async fn a_node_without_the_programs_for_modules_says_so() {
    let fixture = Fixture::new();
    fixture.upload(b"\0asm");
    let refused = fixture
        .deployer
        .deploy(Submission::new(wasm_manifest("64MiB"), hashes(b"\0asm"), BTreeMap::new()))
        .await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("hello") && text.contains("BATON_WASMC"), "{text}");
}
