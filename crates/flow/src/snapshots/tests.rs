//! What is stored comes back, and nothing else does.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

fn image(bytes: &[u8]) -> Image {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = File::from(rustix::fs::memfd_create("test", flags).unwrap());
    (&memory).write_all(bytes).unwrap();
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
    Image::sealed(memory.into()).unwrap()
}

fn bytes_of(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    Positioned { file: &File::from(image.fd.try_clone().unwrap()), at: 0 }.read_to_end(&mut bytes).unwrap();
    bytes
}

const KEY: SnapshotKey = SnapshotKey([7; 32]);

#[test]
fn what_was_stored_comes_back_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("snapshots");
    let memory: Vec<u8> = (0..600_000u32).flat_map(u32::to_le_bytes).collect();
    Snapshots::open(&directory).unwrap().keep(KEY, &image(&memory)).unwrap();
    let again = Snapshots::open(&directory).unwrap();
    assert_eq!(bytes_of(&again.fetch(KEY).unwrap().unwrap()), memory);
    assert!(again.fetch(SnapshotKey([8; 32])).unwrap().is_none());
    for (path, mode) in [(directory.clone(), 0o700), (directory.join(SECRET), 0o600)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn what_was_fetched_cannot_be_changed() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(home.path()).unwrap();
    snapshots.keep(KEY, &image(b"memory")).unwrap();
    let fetched = snapshots.fetch(KEY).unwrap().unwrap();
    assert!(File::from(fetched.fd.try_clone().unwrap()).write_all(b"x").is_err());
    assert!(Image::sealed(fetched.fd).is_some());
}

/// Any bit of it, its name, its length, the secret: whatever was touched, it is not used, and it is gone.
#[test]
fn what_was_tampered_with_is_removed() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(KEY.to_string());
    let tampers: [&dyn Fn(); 6] = [
        &|| flip(&file, 0),
        &|| flip(&file, MAC_BYTES),
        &|| flip(&file, MAC_BYTES + 5),
        &|| OpenOptions::new().append(true).open(&file).unwrap().write_all(b"!").unwrap(),
        &|| OpenOptions::new().write(true).open(&file).unwrap().set_len(MAC_BYTES as u64).unwrap(),
        &|| flip(&home.path().join(SECRET), 3),
    ];
    for tamper in tampers {
        Snapshots::open(home.path()).unwrap().keep(KEY, &image(b"memory")).unwrap();
        tamper();
        let snapshots = Snapshots::open(home.path()).unwrap();
        assert!(snapshots.fetch(KEY).is_err());
        assert!(snapshots.fetch(KEY).unwrap().is_none(), "it is gone");
    }
    let snapshots = Snapshots::open(home.path()).unwrap();
    snapshots.keep(KEY, &image(b"memory")).unwrap();
    let other = SnapshotKey([9; 32]);
    fs::rename(&file, home.path().join(other.to_string())).unwrap();
    assert!(snapshots.fetch(other).is_err(), "under another name");
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn memory_that_can_still_change_is_no_image() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("test", flags).unwrap();
    assert!(Image::sealed(memory).is_none());
}

#[test]
fn the_longest_unused_make_room() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(home.path()).unwrap();
    let key = |number: usize| SnapshotKey([u8::try_from(number % 256).unwrap(); 32]);
    let old = home.path().join(key(255).to_string());
    fs::write(&old, b"old").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    for number in 0..SNAPSHOTS_MAX - 1 {
        fs::write(home.path().join(key(number).to_string()), b"x").unwrap();
    }
    assert!(old.exists());
    snapshots.keep(SnapshotKey([1; 32].map(|_: u8| 0xee)), &image(b"memory")).unwrap();
    assert!(old.exists(), "as many as may be");
    let one_more = SnapshotKey(*blake3::hash(b"one more").as_bytes());
    snapshots.keep(one_more, &image(b"memory")).unwrap();
    assert!(!old.exists());
    assert!(home.path().join(one_more.to_string()).exists() && home.path().join(SECRET).exists());
}

#[test]
fn a_key_covers_all_that_memory_depends_on() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = home.path().join(name);
        fs::write(&path, name).unwrap();
        path
    };
    let (a, b) = (file("a"), file("b"));
    let origin = |executable, program, plan, setting, processor| {
        Origin { executable, host: None, files: None, program, plan, setting, processor }.key().unwrap()
    };
    let base = origin(&a, &b, &[1], &[2], &[3]);
    assert_eq!(base, origin(&a, &b, &[1], &[2], &[3]));
    for other in [
        origin(&b, &b, &[1], &[2], &[3]),
        origin(&a, &a, &[1], &[2], &[3]),
        origin(&a, &b, &[9], &[2], &[3]),
        origin(&a, &b, &[1, 2], &[], &[3]),
        origin(&a, &b, &[1], &[9], &[3]),
        origin(&a, &b, &[1], &[2], &[9]),
    ] {
        assert_ne!(base, other);
    }
    let with_both = |host, files| {
        let (plan, setting, processor) = (&[1], &[2], &[3]);
        Origin { executable: &a, host, files, program: &b, plan, setting, processor }.key().unwrap()
    };
    let with = |files| with_both(None, files);
    assert_eq!(with(None), base);
    let bundle = file("bundle");
    let before = with(Some(&bundle));
    assert_ne!(before, base);
    assert!(with_both(Some(&bundle), None) != before && with_both(Some(&bundle), None) != base);
    fs::write(&bundle, "another").unwrap();
    assert_ne!(with(Some(&bundle)), before);
}
