//! Packages as people make them, and as nobody should.

use std::io::Write;

use baton_cell::bundle::Bundle;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;

fn plain() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated)
}

fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, plain()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The same bytes with a text put in the place of another of the same length, wherever it stands.
fn forged(package: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut forged = package.to_vec();
    let mut at = 0;
    while let Some(found) = forged[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        forged[at + found..at + found + to.len()].copy_from_slice(to.as_bytes());
        at += found + to.len();
    }
    assert!(at > 0);
    forged
}

#[test]
fn files_come_out_in_order_with_their_bytes() {
    let bytes = unzip(&package(&[("lib/b.py", b"two"), ("app.py", b"one"), ("empty", b"")])).unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    let all: Vec<_> = (0..bundle.count()).map(|index| (bundle.name(index), bundle.content(index))).collect();
    assert_eq!(all, [("app.py", &b"one"[..]), ("empty", b""), ("lib/b.py", b"two")]);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let good = package(&[("aaaaaaaaaa", b"x")]);
    for name in ["../../../a", "/etc/passw", "a/../../bb", "a//bbbbbbb", "a/./bbbbbb", "aaaaaaa/.."] {
        let error = unzip(&forged(&good, "aaaaaaaaaa", name)).unwrap_err();
        assert!(matches!(error, PackageError::Name { .. }), "{name}: {error}");
    }
}

#[test]
fn links_and_devices_are_refused() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("app.py", "/etc/passwd", plain()).unwrap();
    let error = unzip(&zip.finish().unwrap().into_inner()).unwrap_err();
    assert!(matches!(error, PackageError::Special { .. }), "{error}");
}

#[test]
fn a_file_is_there_once_and_is_no_directory_of_another() {
    let error = unzip(&package(&[("./app.py", b"x"), ("app.py", b"y")])).unwrap_err();
    assert!(matches!(error, PackageError::Twice { .. }), "{error}");
    let error = unzip(&package(&[("a", b"x"), ("a/b", b"y")])).unwrap_err();
    assert!(matches!(error, PackageError::Bundle(_)), "{error}");
}

#[test]
fn a_bomb_is_stopped_at_the_bound_whatever_it_says() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let zeros = vec![0_u8; 32 << 20];
    for index in 0..9 {
        zip.start_file(format!("bomb{index}"), plain()).unwrap();
        zip.write_all(&zeros).unwrap();
    }
    let bomb = zip.finish().unwrap().into_inner();
    assert!(bomb.len() < 1 << 20);
    let error = unzip(&bomb).unwrap_err();
    assert!(matches!(error, PackageError::TooLarge), "{error}");
}

#[test]
fn what_is_no_zip_is_told_so_and_never_panics() {
    for bytes in [&b""[..], b"PK", b"not a zip at all", &[0; 1024]] {
        assert!(matches!(unzip(bytes).unwrap_err(), PackageError::Broken { .. }));
    }
    assert!(matches!(unzip(&package(&[])).unwrap_err(), PackageError::Empty));
    let good = package(&[("app.py", b"print(1)"), ("lib/x.py", b"")]);
    for at in 0..good.len() {
        let mut torn = good.clone();
        torn[at] ^= 0x55;
        let _ = unzip(&torn);
        let _ = unzip(&good[..at]);
    }
}
