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
    let mut snapshots = Snapshots::open(home.path()).unwrap();
    snapshots.most = 16;
    let key = |number: u32| SnapshotKey(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let path = |number| home.path().join(key(number).to_string());
    // An earlier node's, the last of them not used for longest.
    for number in 0..15 {
        fs::write(path(number), b"x").unwrap();
        let then = SystemTime::now() - Duration::from_secs(3600 + u64::from(number));
        File::options().write(true).open(path(number)).unwrap().set_modified(then).unwrap();
    }
    let there = || (0..20).filter(|&number| path(number).exists()).count();
    snapshots.keep(key(15), &image(b"memory")).unwrap();
    assert_eq!(there(), 16, "as many as may be");
    snapshots.keep(key(16), &image(b"memory")).unwrap();
    assert_eq!(there(), 14, "seven of eight stay");
    assert!(path(15).exists() && path(16).exists() && path(0).exists() && !path(14).exists());
    assert!(home.path().join(SECRET).exists());
    for number in 17..20 {
        snapshots.keep(key(number), &image(b"memory")).unwrap();
    }
    assert_eq!(there(), 14, "the same once more");
}

#[test]
fn pages_of_zeros_take_no_room() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(home.path()).unwrap();
    let mut memory = vec![0; 64 << 10];
    memory.extend([7; 4096]);
    memory.extend(vec![0; (1 << 20) + 5]);
    snapshots.keep(KEY, &image(&memory)).unwrap();
    let on_disk = fs::metadata(home.path().join(KEY.to_string())).unwrap();
    assert!(on_disk.size() == (MAC_BYTES + memory.len()) as u64 && on_disk.blocks() * 512 < 64 << 10);
    let fetched = snapshots.fetch(KEY).unwrap().unwrap();
    assert!(bytes_of(&fetched) == memory);
    assert!(File::from(fetched.fd).metadata().unwrap().blocks() * 512 < 64 << 10);
}

#[test]
fn a_program_that_changes_has_another_hash() {
    let home = tempfile::tempdir().unwrap();
    let (hashes, program) = (Hashes::default(), home.path().join("program"));
    let mut seen = Vec::new();
    for content in ["one", "two", "one more"] {
        fs::write(&program, content).unwrap();
        assert_eq!(hashes.of(&program).unwrap(), blake3::hash(content.as_bytes()));
        assert_eq!(hashes.of(&program).unwrap(), blake3::hash(content.as_bytes()));
        seen.push(content);
        // Times of files are no finer than a tick of the kernel.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(hashes.0.lock().unwrap().len() <= seen.len());
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
        Origin { executable, host: None, files: None, program, plan, setting, processor }
            .key(&Hashes::default())
            .unwrap()
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
        Origin { executable: &a, host, files, program: &b, plan, setting, processor }
            .key(&Hashes::default())
            .unwrap()
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
