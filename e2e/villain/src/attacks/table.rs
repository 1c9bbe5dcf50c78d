//! Lies in the capability table, and about what is freed.

use baton_abi::{Descriptor, Kind, Rights};
use baton_pool::capability::{Derivation, Handle, Hold, Range, State};

use super::each;
use crate::node::{Node, Numbers, entry, extent};

/// Runs `attack` if it is one of these.
pub fn run(attack: &str, node: &mut Node) -> bool {
    match attack {
        "double-free" => each(node, |node, request| {
            let handle = node.accept(&request);
            for _ in 0..4 {
                node.free(&[handle]);
            }
        }),
        "free-foreign" => each(node, |node, _| {
            for index in 0..64 {
                node.free(&[Handle { index, generation: 1 }, Handle { index, generation: 2 }]);
            }
        }),
        "free-forged" => each(node, |node, request| {
            let _ = node.accept(&request);
            for index in [node.hello.slots - 1, node.hello.slots * 9, u32::MAX - 1] {
                node.free(&[Handle { index, generation: u32::MAX }]);
            }
            for index in [node.hello.slots - 1, node.hello.slots - 2, node.hello.slots - 3] {
                node.free(&[Handle { index, generation: 0 }]);
            }
        }),
        "garbage-table" => each(node, |node, request| {
            garbage(node);
            node.push(&Node::reply(request.tag));
        }),
        // Every buffer becomes the node's, or an orphan, or is on its way to somebody who never was.
        "all-the-nodes" => claim(node, State::Held as u8, 0),
        "all-orphans" => claim(node, State::Orphan as u8, 0),
        "all-to-nobody" => claim(node, State::InFlight as u8, 40_000),
        "all-mine" => steal(node),
        "no-rights" => each(node, |node, request| {
            let handle = node.accept(&request);
            let _ = node.table.restrict(handle, node.me(), Rights::WRITE);
            node.depart(handle);
            node.push(&Descriptor { body: extent(handle, 0, 8), ..Node::reply(request.tag) });
        }),
        "high-water" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.table.describe(handle, Range { offset: u64::MAX - 9, len: 9 }, 0);
            node.free(&[handle]);
            node.push(&Node::reply(request.tag));
        }),
        "cycles" => cycles(node),
        "orphans" => orphans(node),
        _ => false,
    }
}

fn garbage(node: &Node) {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let mut page = vec![0u8; 4096];
    let pages = node.table_raw.len() as u64 / 4096;
    for at in 0..pages {
        for eight in page.chunks_mut(8) {
            eight.copy_from_slice(&numbers.draw().to_le_bytes());
        }
        node.table_raw.write(at * 4096, &page);
    }
}

/// Takes a few buffers, says of all buffers of the app that they are someone's, and dies.
fn claim(node: &mut Node, state: u8, holder: u16) -> bool {
    each(node, |node, _| {
        for _ in 0..32 {
            let _ = node.alloc(4096);
        }
        rewrite_all(node, state, holder);
        std::process::exit(5);
    })
}

fn rewrite_all(node: &Node, state: u8, holder: u16) {
    for index in 0..node.hello.slots {
        if let Some(found) = node.table.look(index).filter(|found| found.hold.state != State::Free) {
            node.overwrite(index, entry(found.handle, state, holder, 7));
        }
    }
}

/// Says that all buffers of the app are its own, the node's among them, and frees them.
fn steal(node: &mut Node) -> bool {
    each(node, |node, request| {
        for _ in 0..50 {
            let all: Vec<Handle> = (0..node.hello.slots)
                .filter_map(|index| node.table.look(index))
                .filter(|found| found.hold.state != State::Free)
                .map(|found| found.handle)
                .collect();
            for &handle in &all {
                node.overwrite(handle.index, entry(handle, State::Held as u8, node.me(), 7));
            }
            // One a descriptor, with a good one in between: no three bad ones in a row.
            for &handle in &all {
                node.free(&[handle]);
                node.free(&[]);
                let empty = baton_abi::descriptor::pack_pairs(Kind::Free, 0, &[]);
                node.push(&Descriptor::from_words(empty));
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        node.push(&Node::reply(request.tag));
    })
}

/// A derived capability whose parents form a circle; the node looks for the root.
fn cycles(node: &mut Node) -> bool {
    each(node, |node, request| {
        let handle = node.accept(&request);
        let base = node.hello.derived_base;
        for step in 0..1024u32 {
            let own = Handle { index: base + step, generation: 7 };
            let parent = base + (step + 1) % 1024;
            let mut words = entry(own, State::Held as u8, node.me(), 5);
            words[4] = u64::from(parent) << 32 | 7;
            words[5] = u64::from(handle.index) | u64::from(handle.generation) << 32;
            node.overwrite(own.index, words);
        }
        let _ = node.table.restrict(handle, node.me(), Rights::FROZEN);
        for _ in 0..64 {
            node.free(&[handle]);
            node.free(&[Handle { index: base, generation: 7 }]);
        }
        node.push(&Node::reply(request.tag));
    })
}

/// Thousands of frozen buffers without an owner that something still reads; and the news, over and over, that perhaps
/// nothing does any more.
fn orphans(node: &mut Node) -> bool {
    each(node, |node, request| {
        let handle = node.accept(&request);
        node.free(&[handle]);
        let mut roots = Vec::new();
        while roots.len() < 900 {
            let Some(root) = node.alloc(64) else { break };
            let what = Derivation {
                range: Range { offset: 0, len: 0 },
                rights: Rights::FROZEN,
                expiry_ns: 0,
                to: Hold::held(node.me()),
            };
            let into = node.hello.derived_base + 1023 - roots.len() as u32;
            let _ = node.table.derive(root, node.me(), into, what);
            let _ = node.table.restrict(root, node.me(), Rights::FROZEN);
            roots.push(root);
        }
        node.free(&roots);
        let news: Vec<(u32, u32)> = (0..7).map(|step| (node.hello.derived_base + step, 1)).collect();
        let words = baton_abi::descriptor::pack_pairs(Kind::Free, 0, &news);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while std::time::Instant::now() < until {
            node.push(&Descriptor::from_words(words));
        }
        while !node.push(&Node::reply(request.tag)) {
            std::thread::yield_now();
        }
        super::idle();
    })
}
