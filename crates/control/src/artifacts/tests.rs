//! Artifacts: complete or not there, checked, swept.

use super::*;

fn put(artifacts: &Arc<Artifacts>, bytes: &[u8]) -> ArtifactHash {
    let hash = ArtifactHash::of(bytes);
    let mut incoming = artifacts.receive(hash).unwrap();
    for part in bytes.chunks(3) {
        incoming.write(part).unwrap();
    }
    incoming.finish().unwrap();
    hash
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn an_upload_is_there_when_it_is_complete_and_right() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Arc::new(Artifacts::open(dir.path()).unwrap());
    let hash = put(&artifacts, b"program");
    assert!(artifacts.contains(&hash));
    let path = artifacts.verified(&hash).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    assert_eq!(put(&artifacts, b"program"), hash, "again");

    let other = ArtifactHash::of(b"other");
    let mut wrong = artifacts.receive(other).unwrap();
    wrong.write(b"not other").unwrap();
    assert!(matches!(wrong.finish(), Err(ArtifactError::Mismatch { expected, .. }) if expected == other));
    drop(artifacts.receive(other).unwrap());
    assert!(!artifacts.contains(&other));
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn a_damaged_artifact_is_found_and_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Arc::new(Artifacts::open(dir.path()).unwrap());
    let hash = put(&artifacts, b"program");
    let path = artifacts.verified(&hash).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"pr0gram").unwrap();
    assert!(matches!(artifacts.verified(&hash), Err(ArtifactError::Mismatch { .. })));
    assert!(matches!(artifacts.verified(&hash), Err(ArtifactError::Missing { .. })));
    put(&artifacts, b"program");
    artifacts.verified(&hash).unwrap();
}

#[test]
fn sweeping_spares_what_is_named_and_what_just_came() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Arc::new(Artifacts::open(dir.path()).unwrap());
    let named = put(&artifacts, b"named");
    let fresh = put(&artifacts, b"fresh");
    assert_eq!(artifacts.sweep(&BTreeSet::from([named])).unwrap(), 0);
    // Once it was named, an upload is no longer fresh.
    assert_eq!(artifacts.sweep(&BTreeSet::from([fresh])).unwrap(), 1);
    assert!(!artifacts.contains(&named));
    // A restart forgets what was fresh, and removes what was unfinished.
    fs::write(dir.path().join(".incoming-7"), b"half").unwrap();
    let artifacts = Artifacts::open(dir.path()).unwrap();
    assert_eq!(artifacts.sweep(&BTreeSet::new()).unwrap(), 1);
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn hashes_have_one_text_each() {
    let hash = ArtifactHash::of(b"x");
    let text = hash.to_string();
    assert_eq!(text.parse(), Ok(hash));
    for wrong in ["", "../../etc/passwd", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
        assert_eq!(wrong.parse::<ArtifactHash>(), Err(HashFault), "{wrong}");
    }
}
