//! Packing is the same everywhere, refuses what it cannot keep, and what is unpacked is what was packed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_cell::bundle::{Bundle, FILES_MAX, NameFault};
use tempfile::TempDir;

use super::*;
use crate::artifacts::ArtifactHash;

fn app(files: &[(&str, &str)]) -> TempDir {
    let app = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = app.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    app
}

const FILES: [(&str, &str); 4] =
    [("data/b.txt", "bee"), ("data/b/c", "sea"), ("data/.hidden", ""), ("elsewhere", "x")];

#[test]
fn a_tree_has_one_bundle_whenever_and_wherever_it_is_packed() {
    let one = app(&FILES);
    let mut reversed = FILES;
    reversed.reverse();
    let other = app(&reversed);
    let file = fs::File::open(other.path().join("data/b/c")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(7)).unwrap();
    fs::set_permissions(other.path().join("data/b.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(other.path().join("data/empty")).unwrap();
    let packed = pack(one.path(), Path::new("data")).unwrap();
    assert_eq!(packed, pack(other.path(), Path::new("./data/")).unwrap());
    let bundle = Bundle::parse(&packed).unwrap();
    let names: Vec<&str> = (0..bundle.count()).map(|index| bundle.name(index)).collect();
    assert_eq!(names, [".hidden", "b.txt", "b/c"]);
    let single = pack(one.path(), Path::new("data/b/c")).unwrap();
    let bundle = Bundle::parse(&single).unwrap();
    assert_eq!((bundle.count(), bundle.name(0), bundle.content(0)), (1, "c", b"sea".as_slice()));
}

fn refused(app: &TempDir, files: &str) -> PackError {
    let error = pack(app.path(), Path::new(files)).unwrap_err();
    assert!(!error.to_string().is_empty() && !error.hint().is_empty());
    error
}

#[test]
fn what_cannot_be_bundled_is_named() {
    let app = app(&FILES);
    assert!(matches!(refused(&app, "missing"), PackError::Missing { path } if path.ends_with("missing")));
    assert!(matches!(refused(&app, "elsewhere/x"), PackError::Missing { .. }));
    fs::create_dir_all(app.path().join("empty/deep")).unwrap();
    assert!(matches!(refused(&app, "empty"), PackError::Empty { .. }));
    let _socket = UnixListener::bind(app.path().join("data/socket")).unwrap();
    assert!(matches!(refused(&app, "data"), PackError::Special { path } if path.ends_with("data/socket")));
    assert!(matches!(refused(&app, "data/socket"), PackError::Special { .. }));
    fs::remove_file(app.path().join("data/socket")).unwrap();
    let odd = std::ffi::OsString::from_vec(b"data/\xff".to_vec());
    fs::write(app.path().join(&odd), "x").unwrap();
    assert!(matches!(refused(&app, "data"), PackError::Name { fault: NameFault::Encoding, .. }));
    fs::remove_file(app.path().join(&odd)).unwrap();
    fs::create_dir_all(app.path().join("data").join("d/".repeat(40))).unwrap();
    assert!(matches!(refused(&app, "data"), PackError::Name { fault: NameFault::TooLong, .. }));
}

#[test]
fn links_lead_nowhere() {
    let app = app(&FILES);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, app.path().join(name)).unwrap();
    link(outside.path(), "out");
    assert!(matches!(refused(&app, "out"), PackError::Outside { .. }));
    assert!(matches!(refused(&app, "out/secret"), PackError::Outside { .. }));
    link(Path::new("data"), "in");
    assert!(pack(app.path(), Path::new("in")).is_ok(), "it is the manifest that names it");
    for to in [outside.path().join("secret"), PathBuf::from("b.txt"), PathBuf::from("nowhere")] {
        link(&to, "data/link");
        assert!(matches!(refused(&app, "data"), PackError::Link { path } if path.ends_with("data/link")));
        fs::remove_file(app.path().join("data/link")).unwrap();
    }
}

#[test]
fn files_are_so_many_and_so_large_at_most() {
    let app = app(&[]);
    let data = app.path().join("data");
    fs::create_dir(&data).unwrap();
    for number in 0..FILES_MAX {
        fs::write(data.join(number.to_string()), "").unwrap();
    }
    assert!(pack(app.path(), Path::new("data")).is_ok());
    fs::write(data.join("one more"), "").unwrap();
    assert!(matches!(refused(&app, "data"), PackError::TooMany { .. }));
    // Holes take no room on the disk.
    fs::File::create(app.path().join("large")).unwrap().set_len((256 << 20) + 1).unwrap();
    assert!(matches!(refused(&app, "large"), PackError::TooLarge { path } if path.ends_with("large")));
}

#[test]
fn what_is_unpacked_is_what_was_packed_and_is_mended() {
    let app = app(&FILES);
    let home = tempfile::tempdir().unwrap();
    let packed = pack(app.path(), Path::new("data")).unwrap();
    let (bundle, hash) = (Bundle::parse(&packed).unwrap(), ArtifactHash::of(&packed));
    let trees = Trees::open(&home.path().join("files")).unwrap();
    let tree = trees.tree(&hash, bundle).unwrap();
    let read = |name: &str| fs::read_to_string(tree.join(name)).unwrap();
    let check =
        || assert_eq!((read(".hidden"), read("b.txt"), read("b/c")), ("".into(), "bee".into(), "sea".into()));
    check();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&tree), mode(&tree.join("b")), mode(&tree.join("b/c"))), (0o755, 0o755, 0o444));
    assert_eq!(mode(&home.path().join("files")), 0o700);
    let made = fs::metadata(&tree).unwrap().modified().unwrap();
    assert_eq!(trees.tree(&hash, bundle).unwrap(), tree);
    assert_eq!(fs::metadata(&tree).unwrap().modified().unwrap(), made, "once is enough");
    let damages: [&dyn Fn(); 5] = [
        &|| fs::write(tree.join("more"), "").unwrap(),
        &|| fs::remove_file(tree.join("b/c")).unwrap(),
        &|| {
            fs::remove_file(tree.join("b/c")).unwrap();
            fs::write(tree.join("b/c"), "see").unwrap();
        },
        &|| {
            fs::remove_file(tree.join("b/c")).unwrap();
            std::os::unix::fs::symlink(app.path().join("data/b/c"), tree.join("b/c")).unwrap();
        },
        &|| fs::remove_dir_all(&tree).unwrap(),
    ];
    for damage in damages {
        damage();
        assert_eq!(trees.tree(&hash, bundle).unwrap(), tree);
        check();
        assert!(fs::symlink_metadata(tree.join("b/c")).unwrap().is_file() && !tree.join("more").exists());
    }
}

#[test]
fn trees_that_nothing_names_go_after_a_while() {
    let app = app(&FILES);
    let home = tempfile::tempdir().unwrap();
    let packed = pack(app.path(), Path::new("data")).unwrap();
    let (bundle, hash) = (Bundle::parse(&packed).unwrap(), ArtifactHash::of(&packed));
    let trees = Trees::open(home.path()).unwrap();
    let tree = trees.tree(&hash, bundle).unwrap();
    let (named, none) = (BTreeSet::from([hash]), BTreeSet::new());
    assert_eq!(trees.sweep_after(&named, Duration::ZERO).unwrap(), 0);
    assert_eq!(trees.sweep(&none).unwrap(), 0, "a version that drains reads it");
    assert_eq!(trees.sweep_after(&named, Duration::ZERO).unwrap(), 0);
    assert_eq!(trees.sweep_after(&none, Duration::ZERO).unwrap(), 1);
    assert!(!tree.exists());
    fs::create_dir_all(home.path().join(".incoming-x/y")).unwrap();
    Trees::open(home.path()).unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}
