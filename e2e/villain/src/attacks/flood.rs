//! Too much of everything that is allowed.

use std::time::{Duration, Instant};

use baton_abi::{Descriptor, Extent, Kind};
use baton_pool::ledger::class_bytes;

use super::each;
use crate::node::Node;

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(2);

/// Runs `attack` if it is one of these.
pub fn run(attack: &str, node: &mut Node) -> bool {
    match attack {
        "alloc-absurd" => each(node, |node, request| {
            for len in [u64::MAX, u64::MAX - 63, u64::MAX - 200, 1 << 63, node.hello.pool_bytes + 1] {
                if node.alloc(len).is_some() {
                    // More than there is was granted: the answer says so.
                    node.answer(&request, b"granted!");
                    return;
                }
            }
            node.answer(&request, b"villain!");
        }),
        "alloc-flood" => flood(node, |step| alloc(Kind::Alloc, 0, 1 << (step % 24))),
        "alloc-large-flood" => flood(node, |step| alloc(Kind::Alloc, 0, (1 << 20) - 64 * (step % 512))),
        "refill-flood" => flood(node, |step| alloc(Kind::Refill, u16::MAX, class_bytes((step % 9) as u8))),
        "refill-none" => flood(node, |_| alloc(Kind::Refill, 0, 256)),
        // Large buffers that are taken and given back, again and again: the node cleans them.
        "churn" => each(node, |node, request| {
            let until = Instant::now() + FLOOD;
            let mut step = 0;
            while Instant::now() < until {
                step += 1;
                if let Some(handle) = node.alloc((1 << 20) - 4096 - 64 * (step % 64) * 97 % 60_000) {
                    node.fill(handle, &[1; 1]);
                    node.free(&[handle]);
                }
            }
            node.answer(&request, b"villain!");
        }),
        "log-flood" => each(node, |node, request| {
            use std::io::Write;
            let lines = [b'\n'; 65_536];
            let until = Instant::now() + FLOOD;
            while Instant::now() < until {
                let _ = std::io::stdout().lock().write_all(&lines);
            }
            node.answer(&request, b"villain!");
        }),
        // Busy, and never back.
        "spin" => each(node, |_, _| {
            loop {
                core::hint::spin_loop();
            }
        }),
        // Lively as its bell tells, but its answers never come.
        "busy-liar" => each(node, |node, _| {
            let mut turn = 0;
            loop {
                turn += 1;
                node.bell.publish_turn(turn);
                std::thread::sleep(Duration::from_millis(1));
            }
        }),
        "noise" => each(node, |node, request| {
            let mut numbers = crate::node::Numbers(0xdead_beef_cafe_f00d);
            let until = Instant::now() + FLOOD;
            while Instant::now() < until {
                let mut words = core::array::from_fn(|_| numbers.draw());
                words[0] = words[0] & !0xff | (1 + numbers.draw() % 9);
                words[3] &= 0xffff_ffff_0000_03ff;
                node.push(&Descriptor::from_words(words));
                let empty = baton_abi::descriptor::pack_pairs(Kind::Free, 0, &[]);
                node.push(&Descriptor::from_words(empty));
                let _ = node.link.from_peer.pop();
            }
            node.answer(&request, b"villain!");
        }),
        _ => false,
    }
}

fn alloc(kind: Kind, code: u16, len: u64) -> Descriptor {
    Descriptor { code, tag: 1, body: Extent { len, ..Extent::EMPTY }, ..Descriptor::new(kind) }
}

fn flood(node: &mut Node, make: impl Fn(u64) -> Descriptor) -> bool {
    each(node, |node, request| {
        let until = Instant::now() + FLOOD;
        let mut step = 0;
        while Instant::now() < until {
            step += 1;
            node.push(&make(step));
            // Its own ring is kept empty, so that the flood is all that it dies of, if it does.
            while let Ok(Some(_)) = node.link.from_peer.pop() {}
        }
        node.answer(&request, b"villain!");
    })
}
