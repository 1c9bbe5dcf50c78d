//! Files of a function: read where they lie in one mapping, by its own seat only, and by nobody changed.

use std::path::PathBuf;

use baton_cell::bundle;

use crate::calls::both;
use crate::guest;
use crate::node::{Cell, Function, Node};

/// Writes a bundle to where a node would have it.
fn bundled(directory: &tempfile::TempDir, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let lens: Vec<(&str, u64)> = files.iter().map(|(name, bytes)| (*name, bytes.len() as u64)).collect();
    let mut bytes = bundle::head(&lens).unwrap();
    files.iter().for_each(|(_, content)| bytes.extend_from_slice(content));
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn function(name: &'static str, files: Option<PathBuf>) -> Function {
    Function { files, ..Function::new(name, &guest("files")) }
}

const LARGE_BYTES: usize = 300_001;

fn large() -> Vec<u8> {
    (0..LARGE_BYTES).map(|at| u8::try_from(at * 7 % 256).unwrap()).collect()
}

fn stage(directory: &tempfile::TempDir) -> Vec<Function> {
    let large = large();
    let own = bundled(
        directory,
        "own",
        &[("a/deep/file", b"deep"), ("greeting", b"hello world"), ("large", &large)],
    );
    let other = bundled(directory, "other", &[("greeting", b"HELLO WORLD")]);
    vec![function("own", Some(own)), function("other", Some(other)), function("none", None)]
}

fn check(cell: &mut Cell, node: &mut Node) {
    let mut ask = |seat: usize, what: &str| cell.ask(&mut node.pool, seat, what.as_bytes()).text();
    assert_eq!(ask(0, "r/app/greeting"), "hello world");
    assert_eq!(ask(0, "rapp/a/../greeting"), "hello world");
    assert_eq!(ask(0, "l/app"), "a/ greeting large ");
    assert_eq!(ask(0, "l/app/a/deep"), "file ");
    assert_eq!(ask(0, "l/"), "app/ ");
    assert_eq!((ask(0, "s/app/greeting"), ask(0, "s/app/a")), ("100444 11".to_owned(), "40555 0".to_owned()));
    for (path, why) in [
        ("/app/missing", "No such file or directory"),
        ("/app/greeting/x", "Not a directory"),
        ("/app/../etc/passwd", "No such file or directory"),
        ("/proc/self/environ", "No such file or directory"),
    ] {
        assert_eq!(
            (ask(0, &format!("r{path}")), ask(0, &format!("s{path}"))),
            (why.to_owned(), why.to_owned())
        );
    }
    let sum: u64 = large().iter().zip(0u64..).map(|(byte, at)| u64::from(*byte) * (at % 251 + 1)).sum();
    assert_eq!(ask(0, "m/app/large"), format!("{LARGE_BYTES} same {sum}"));
    assert_eq!(ask(0, "w/app/greeting"), "rrrrrrr");
    assert_eq!(ask(0, "r/app/greeting"), "hello world");
    // Another's files, and none.
    assert_eq!(
        (ask(1, "r/app/greeting"), ask(1, "l/app")),
        ("HELLO WORLD".to_owned(), "greeting ".to_owned())
    );
    assert_eq!(
        (ask(2, "r/app/greeting"), ask(2, "l/")),
        ("No such file or directory".to_owned(), String::new())
    );
    assert_eq!(ask(2, "s/app"), "No such file or directory");
}

#[test]
fn a_function_reads_its_own_files_and_changes_none() {
    both(|trust| {
        let directory = tempfile::tempdir().unwrap();
        let mut node = Node::start(trust, stage(&directory)).unwrap();
        let mut cell = node.fork();
        check(&mut cell, &mut node);
        let mut other = node.fork();
        check(&mut other, &mut node);
    });
}

#[test]
fn files_that_were_open_before_the_first_request_are_open_in_every_cell() {
    both(|trust| {
        let directory = tempfile::tempdir().unwrap();
        let mut first = Node::start(trust, stage(&directory)).unwrap();
        let look = |node: &mut Node| {
            let mut cell = node.fork();
            assert_eq!(cell.ask(&mut node.pool, 0, b"k").text(), "lo wo", "behind what was read");
            assert_eq!(cell.ask(&mut node.pool, 0, b"k").text(), "rld");
            assert!(cell.ask(&mut node.pool, 0, b"x").is_error);
            assert_eq!(cell.ask(&mut node.pool, 0, b"k").text(), "lo wo", "back at its snapshot");
            assert_eq!(cell.ask(&mut node.pool, 2, b"k").text(), "Bad file descriptor");
        };
        look(&mut first);
        let mut second = Node::start_with(trust, stage(&directory), &first.snapshots, false).unwrap();
        assert!(second.snapshots.iter().all(Option::is_none), "kept snapshots are not made anew");
        look(&mut second);
        let mut cell = second.fork();
        check(&mut cell, &mut second);
    });
}

#[test]
fn a_bundle_that_is_none_is_refused_and_so_is_a_snapshot_of_other_files() {
    both(|trust| {
        let directory = tempfile::tempdir().unwrap();
        let good = bundled(&directory, "good", &[("b", b"x"), ("greeting", b"hello")]);
        let bytes = std::fs::read(&good).unwrap();
        let refused = |bytes: &[u8], says: &str| {
            let path = directory.path().join("bad");
            std::fs::write(&path, bytes).unwrap();
            let why = Node::start(trust, vec![function("own", Some(path))]).err().unwrap();
            assert!(why.contains("its files") && why.contains(says), "{why}");
        };
        refused(b"x", "does not begin");
        refused(&bytes[..bytes.len() - 1], "not as long");
        let mut escaping = bytes.clone();
        let at = bytes.windows(9).position(|window| window == b"bgreeting").unwrap();
        escaping[at] = b'.';
        refused(&escaping, "a part that is empty");
        // The descriptor that it has open is of a file that is not there any more.
        let first = Node::start(trust, vec![function("own", Some(good))]).unwrap();
        let fewer = bundled(&directory, "fewer", &[("b", b"x")]);
        let why = Node::start_with(trust, vec![function("own", Some(fewer))], &first.snapshots, false);
        assert!(why.err().unwrap().contains("its snapshot is none of this function"));
    });
}
