//! The store under restarts, torn copies, damage and full disks.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::deploy::tests::deployment;

fn apps(store: &Store) -> Vec<(String, u64)> {
    let stored = store.all().unwrap();
    assert!(stored.unreadable.is_empty());
    stored.deployments.values().map(|d| (d.app().to_string(), d.version)).collect()
}

#[test]
fn deployments_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let shop = deployment("shop", 3, b"x");
    {
        let store = Store::open(&file).unwrap();
        store.put(&deployment("shop", 1, b"old")).unwrap();
        store.put(&shop).unwrap();
        store.put(&deployment("gone", 1, b"x")).unwrap();
        assert!(store.remove("gone").unwrap());
        assert!(!store.remove("gone").unwrap());
    }
    let store = Store::open(&file).unwrap();
    assert_eq!(store.all().unwrap().deployments.values().collect::<Vec<_>>(), [&shop]);
}

#[test]
fn a_file_copied_at_any_moment_holds_the_old_row_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let copy = dir.path().join("copy.redb");
    let store = Store::open(&file).unwrap();
    for version in 1..=20 {
        store.put(&deployment("shop", version, b"x")).unwrap();
        // What a killed process leaves behind: the file as it is while the database still has it open.
        fs::copy(&file, &copy).unwrap();
        assert_eq!(apps(&Store::open(&copy).unwrap()), [("shop".to_owned(), version)]);
    }
}

#[test]
fn a_killed_process_leaves_a_store_that_opens() {
    use std::process::{Command, Stdio};
    // This test runs itself again as the process that is killed.
    const CHILD: &str = "BATON_TEST_STORE_WRITER";
    if let Some(file) = std::env::var_os(CHILD) {
        let store = Store::open(Path::new(&file)).unwrap();
        for version in 1..100_000 {
            store.put(&deployment("shop", version, b"x")).unwrap();
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let mut last = 0;
    // On a busy machine a writer may be killed before its first row: then there are more rounds.
    for round in 0..40 {
        if round >= 4 && last > 0 {
            break;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::a_killed_process_leaves_a_store_that_opens", "--nocapture"])
            .env(CHILD, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = apps(&Store::open(&file).unwrap());
        if let [(app, version)] = found.as_slice() {
            assert_eq!(app, "shop");
            last = *version;
        } else {
            assert!(found.is_empty());
        }
    }
    assert!(last > 0, "the writer never got to write");
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    {
        let store = Store::open(&file).unwrap();
        for version in 1..=5 {
            store.put(&deployment("shop", version, b"x")).unwrap();
        }
    }
    let whole = fs::read(&file).unwrap();
    let damaged = dir.path().join("damaged.redb");
    let check = |bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        // Damage in a part that is not used may go unnoticed; what is read must be read without panic.
        if let Ok(store) = Store::open(&damaged) {
            let _ = store.all();
        }
    };
    for len in [0, 1, 8, 9, 64, 320, 4096, whole.len() / 2, whole.len() - 1] {
        check(&whole[..len]);
    }
    for at in (0..512).chain((512..whole.len()).step_by(997)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        check(&bytes);
    }
    fs::write(&damaged, b"this is no database, it is a letter").unwrap();
    let error = Store::open(&damaged).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("damaged.redb"));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let store = Store::open(&file).unwrap();
    let raise = |database: &Database| {
        let change = database.begin_write()?;
        change.open_table(ABOUT)?.insert(FORMAT_KEY, FORMAT + 1)?;
        Ok(change.commit()?)
    };
    store.with(raise).unwrap();
    drop(store);
    assert!(matches!(Store::open(&file), Err(StoreError::Newer { format, .. }) if format == FORMAT + 1));
}

#[test]
fn an_unreadable_row_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.redb")).unwrap();
    store.put(&deployment("shop", 1, b"x")).unwrap();
    let spoil = |database: &Database| {
        let change = database.begin_write()?;
        change.open_table(DEPLOYMENTS)?.insert("old", b"{}".as_slice())?;
        Ok(change.commit()?)
    };
    store.with(spoil).unwrap();
    let stored = store.all().unwrap();
    assert_eq!(stored.deployments.len(), 1);
    assert_eq!(stored.unreadable[0].0, "old");
}

/// Memory that refuses every write once the budget is used up, and outlives the database.
#[derive(Debug, Clone)]
struct SmallDisk {
    memory: Arc<InMemoryBackend>,
    budget: Arc<AtomicI64>,
}

impl SmallDisk {
    fn spend(&self) -> io::Result<()> {
        if self.budget.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend()?;
        self.memory.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.memory.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.spend()?;
        self.memory.write(offset, data)
    }
}

#[test]
fn a_full_disk_at_any_write_loses_nothing() {
    for room in 0..40 {
        let disk = SmallDisk { memory: Arc::default(), budget: Arc::new(AtomicI64::new(i64::MAX)) };
        let opened = disk.clone();
        let opener = move || Ok(Database::builder().create_with_backend(opened.clone())?);
        let store = Store::over(Disk::opened_by(Path::new("state.redb"), Box::new(opener))).unwrap();
        store.put(&deployment("shop", 1, b"x")).unwrap();
        disk.budget.store(room, Ordering::Relaxed);
        let result = store.put(&deployment("shop", 2, b"y"));
        disk.budget.store(i64::MAX, Ordering::Relaxed);
        let expect = match result {
            Ok(()) => 2,
            Err(error) => {
                assert!(matches!(error, StoreError::Full { .. }), "{error}");
                1
            }
        };
        assert_eq!(apps(&store), [("shop".to_owned(), expect)], "with room for {room} writes");
        store.put(&deployment("shop", 3, b"z")).unwrap();
        assert_eq!(apps(&store), [("shop".to_owned(), 3)]);
    }
}

fn numbers(store: &Store) -> Vec<u64> {
    store.versions("shop").unwrap().iter().map(|kept| kept.deployment.version).collect()
}

#[test]
fn a_file_of_format_1_is_taken_over_with_its_versions() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let shop = deployment("shop", 3, b"x");
    // As a node of that format wrote it: no versions, no newer fields.
    let row = serde_json::json!({ "manifest": shop.manifest, "version": 3, "artifacts": shop.artifacts });
    let store = Store::open(&file).unwrap();
    let back = |database: &Database| {
        let change = database.begin_write()?;
        change.delete_table(versions::VERSIONS)?;
        change.open_table(ABOUT)?.insert(FORMAT_KEY, FORMAT_WITHOUT_VERSIONS)?;
        change.open_table(DEPLOYMENTS)?.insert("shop", row.to_string().as_bytes())?;
        change.open_table(DEPLOYMENTS)?.insert("odd", b"{}".as_slice())?;
        Ok(change.commit()?)
    };
    store.with(back).unwrap();
    drop(store);
    for _ in 0..2 {
        let store = Store::open(&file).unwrap();
        let stored = store.all().unwrap();
        assert_eq!(stored.deployments.values().collect::<Vec<_>>(), [&shop]);
        assert_eq!((numbers(&store), stored.unreadable.len(), stored.is_whole), (vec![3], 1, true));
        assert!(shop.named().all(|hash| stored.named.contains(&hash)));
    }
}

#[test]
fn versions_are_kept_with_what_became_of_them_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.redb")).unwrap();
    store.put(&deployment("shopping", 1, b"x")).unwrap();
    for version in 1..=12 {
        store.put(&deployment("shop", version, &version.to_le_bytes())).unwrap();
    }
    assert_eq!(numbers(&store), (3..=12).collect::<Vec<_>>());
    let undone = Undone { version: 12, why: "it failed".to_owned(), at_ms: 1 };
    store.put(&Deployment { undone: Some(undone), ..deployment("shop", 3, &3_u64.to_le_bytes()) }).unwrap();
    store.put(&deployment("shop", 13, b"13")).unwrap();
    let kept = store.versions("shop").unwrap();
    let told: Vec<_> = kept.iter().filter_map(|kept| kept.undone.clone()).collect();
    assert_eq!((numbers(&store).first(), told), (Some(&4), vec!["it failed".to_owned()]));
    store.remove("shop").unwrap();
    assert_eq!((numbers(&store), store.versions("shopping").unwrap().len()), (Vec::new(), 1));
}

#[test]
fn what_answers_is_kept_however_old_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.redb")).unwrap();
    let beside = |next: u64| Deployment {
        beside: Some(Box::new(Beside {
            next: deployment("shop", next, &next.to_le_bytes()),
            share: "10%".parse().unwrap(),
            sticky: None,
            rollback: baton_catalog::Rollback::default(),
            takes_over: false,
        })),
        ..deployment("shop", 1, b"1")
    };
    for next in 2..=20 {
        store.put(&beside(next)).unwrap();
    }
    let kept = numbers(&store);
    assert_eq!((kept.len(), kept.first(), kept.last()), (10, Some(&1), Some(&20)));
    assert_eq!(store.all().unwrap().deployments.values().next(), Some(&beside(20)));
}
