//! What a node has written over a guest's code, and what the cell makes of it.

use baton_abi::cell::Trust;
use baton_abi::plan::Patch;
use baton_cell::elf::Image;

use crate::calls::both;
use crate::node::{Function, Node};
use crate::{guest, harmless};

const WRPKRU: [u8; 3] = [0x0f, 0x01, 0xef];

/// Starts the echo with one more patch, if this machine can.
fn start(trust: Trust, patch: impl FnOnce(&Image) -> Patch) -> Result<Node, String> {
    let elf = guest("echo");
    let bytes = std::fs::read(&elf).unwrap();
    let mut patches = harmless(&bytes);
    patches.push(patch(&Image::parse(&bytes).unwrap()));
    Node::start(trust, vec![Function { patches: Some(patches), ..Function::new("echo", &elf) }])
}

fn code_end(image: &Image) -> (u64, u64) {
    let last = image.executable().last().unwrap();
    (last.end(), last.pages().end)
}

#[test]
fn a_patch_may_lie_behind_the_last_byte_of_the_code() {
    both(|trust| {
        let at_end = |image: &Image| Patch::new(code_end(image).1 - 2, &[0xcc, 0xcc]).unwrap();
        let mut node = start(trust, at_end).unwrap();
        let mut cell = node.fork();
        assert_eq!(cell.ask(&mut node.pool, 0, b"hello").text(), "hello");
    });
}

#[test]
fn a_patch_that_reaches_out_of_the_code_is_refused() {
    both(|trust| {
        let check = |patch: &dyn Fn(&Image) -> Patch| {
            let why = start(trust, patch).err().unwrap();
            assert!(why.contains("which are not code"), "{why}");
        };
        check(&|image| Patch::new(code_end(image).1 - 1, &[0xcc, 0xcc]).unwrap());
        check(&|image| Patch::new(image.executable().next().unwrap().pages().start - 1, &[0xcc]).unwrap());
        check(&|image| Patch::new(image.segments().last().unwrap().at, &[0]).unwrap());
        check(&|_| Patch::new(u64::MAX, &[0xcc, 0xcc]).unwrap());
        check(&|_| Patch::new(1 << 33, &[0xcc]).unwrap());
    });
}

#[test]
fn what_a_patch_brings_is_scanned_like_all_code() {
    both(|trust| {
        let check = |patch: &dyn Fn(&Image) -> Patch| {
            let why = start(trust, patch).err().unwrap();
            assert!(why.contains("forbidden instruction wrpkru"), "{why}");
        };
        check(&|image| Patch::new(image.entry(), &WRPKRU).unwrap());
        check(&|image| Patch::new(code_end(image).0, &WRPKRU).unwrap());
        check(&|image| Patch::new(code_end(image).1 - 3, &WRPKRU).unwrap());
    });
}
