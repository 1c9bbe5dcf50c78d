//! Secrets that travel a cluster.

use std::fs;
use std::path::{Path, PathBuf};

use baton_catalog::SecretName;

use super::*;
use crate::deploy::SecretFault;
use crate::secrets::SecretValue;

const VALUE: &str = "correct horse battery staple";

/// A key that seals, in a file.
fn key(directory: &Path, digit: char) -> PathBuf {
    let path = directory.join(format!("cluster-{digit}.key"));
    fs::write(&path, digit.to_string().repeat(64)).unwrap();
    path
}

async fn member(nats: &Nats, node: &str, secrets: Option<PathBuf>) -> Member {
    Member::join_as(Fixture::new(), ClusterOptions { secrets, ..options(nats, node, 1) }).await
}

fn db() -> SecretName {
    SecretName::new("db").unwrap()
}

impl Member {
    async fn set(&self, value: &str) -> crate::deploy::SecretChange {
        let value = SecretValue::new(value.as_bytes().to_vec()).unwrap();
        self.fixture.deployer.set_secret(shop(), db(), value).await.unwrap()
    }

    /// Revisions of the secrets that it has, and whether they are the cluster's.
    fn has(&self) -> Vec<(u64, bool)> {
        let secrets = self.fixture.deployer.secrets().unwrap();
        secrets.iter().map(|secret| (secret.revision, secret.shared)).collect()
    }

    async fn has_revision(&self, revision: u64) {
        until("it has the secret", || async { self.has() == [(revision, true)] }).await;
    }
}

#[tokio::test]
async fn a_secret_comes_to_all_nodes_and_lies_sealed_in_the_servers() {
    let Some(nats) = Nats::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = key(directory.path(), '7');
    let a = member(&nats, "a", Some(file.clone())).await;
    let b = member(&nats, "b", Some(file.clone())).await;
    let change = a.set(VALUE).await;
    assert_eq!((change.revision, change.changed, change.shared), (1, true, true));
    b.has_revision(1).await;
    // The other way round, over what has come.
    assert!(!b.set(VALUE).await.changed);
    assert_eq!(b.set("another").await.revision, 2);
    a.has_revision(2).await;
    // One that comes later has it too.
    let c = member(&nats, "c", Some(file)).await;
    c.has_revision(2).await;
    let rows = a.cluster.bus.history("secret.shop.db").await.unwrap();
    let sealed: Vec<u8> = rows.into_iter().flatten().flatten().collect();
    assert!(!sealed.is_empty());
    for clear in [VALUE, "another"] {
        let hex: String = clear.bytes().map(|byte| format!("{byte:02x}")).collect();
        for part in [clear, &hex] {
            assert!(!sealed.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
        }
    }
    c.fixture.deployer.remove_secret(&shop(), &db()).await.unwrap();
    for member in [&a, &b, &c] {
        until("it is gone", || async { member.has().is_empty() }).await;
    }
    let gone = a.fixture.deployer.remove_secret(&shop(), &db()).await;
    assert!(matches!(gone, Err(SecretFault::Secret(_))), "{gone:?}");
    // Numbers go on nowhere: who has removed one starts anew.
    assert_eq!(a.set(VALUE).await.revision, 1);
    b.has_revision(1).await;
}

#[tokio::test]
async fn nodes_with_another_key_or_none_say_so_and_others_are_not_held_up() {
    let Some(nats) = Nats::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let a = member(&nats, "a", Some(key(directory.path(), '7'))).await;
    let other = member(&nats, "b", Some(key(directory.path(), '8'))).await;
    let none = member(&nats, "c", None).await;
    // What is told is told of an app.
    a.deploy(b"one").await.unwrap();
    other.runs(1).await;
    a.set(VALUE).await;
    until("the other key is told of", || async {
        other.fixture.deployer.failed().iter().any(|failed| failed.error.contains("--cluster-secrets"))
    })
    .await;
    until("all have heard", || async { !none.cluster.wanted.borrow().secrets.is_empty() }).await;
    assert!(other.has().is_empty() && none.has().is_empty());
    // A node without the key has secrets of its own.
    let change = none.set("mine").await;
    assert!(!change.shared);
    assert_eq!(none.has(), [(1, false)]);
    assert_eq!(a.has(), [(1, true)]);
    none.runs(1).await;
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_with_its_file() {
    let Some(nats) = Nats::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    for content in [None, Some("123"), Some("xyz")] {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let opened =
            Cluster::open(ClusterOptions { secrets: Some(file.clone()), ..options(&nats, "a", 1) }).await;
        let Err(error @ ClusterError::File { .. }) = opened else { panic!("{content:?}") };
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
}
