//! Lies about rings: positions, slots, bells, and not reading at all.
//!
//! The villain is the far side of its link: it produces on ← and consumes on →.

use std::sync::Arc;
use std::time::{Duration, Instant};

use baton_abi::{Descriptor, Kind};

use super::{each, idle};
use crate::node::{Node, Numbers, extent};

/// Positions of →: the node's tail, and the villain's head.
const HEAD_IN: u64 = 128 + 64;
/// Positions of ←: the villain's tail, and the node's head.
const TAIL_OUT: u64 = 256;
const HEAD_OUT: u64 = 256 + 64;

/// Runs `attack` if it is one of these.
pub fn run(attack: &str, node: &mut Node) -> bool {
    match attack {
        "overrun" => tail(node, 100_000),
        "overrun-by-one" => {
            let entries = node.hello.ring_entries;
            tail(node, entries + 1)
        }
        "overrun-wraps" => tail(node, u32::MAX),
        "overrun-half" => tail(node, 1 << 31),
        // As many stale slots as the ring has: all of them are read, none is believed.
        "replay-ring" => {
            let entries = node.hello.ring_entries;
            tail(node, entries)
        }
        "head-lies" => each(node, |node, request| {
            node.answer(&request, b"villain!");
            node.link_raw.write(HEAD_IN, &0x7000_0000u32.to_le_bytes());
        }),
        "head-back" => each(node, |node, request| {
            node.link_raw.write(HEAD_IN, &0u32.to_le_bytes());
            node.answer(&request, b"villain!");
            node.link_raw.write(HEAD_IN, &0u32.to_le_bytes());
        }),
        "node-head" => each(node, |node, request| {
            node.link_raw.write(HEAD_OUT, &0x1234_5678u32.to_le_bytes());
            node.answer(&request, b"villain!");
        }),
        "garbage-link" => each(node, |node, _| {
            let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
            let until = Instant::now() + Duration::from_millis(200);
            while Instant::now() < until {
                let at = numbers.draw() % (node.link_raw.len() as u64 - 8) / 8 * 8;
                node.link_raw.write(at, &numbers.draw().to_le_bytes());
            }
            node.ring();
            let _ = rustix::io::write(&node.eventfd, &1u64.to_ne_bytes());
        }),
        // It takes its requests from the ring by looking, never says that it did.
        "never-reads" => idle(),
        "rewrite" => rewrite(node),
        "bell-flood" => each(node, |node, request| {
            let until = Instant::now() + Duration::from_secs(2);
            node.answer(&request, b"villain!");
            while Instant::now() < until {
                let _ = rustix::io::write(&node.eventfd, &1u64.to_ne_bytes());
            }
        }),
        "bell-full" => each(node, |node, request| {
            let _ = rustix::io::write(&node.eventfd, &(u64::MAX - 1).to_ne_bytes());
            node.answer(&request, b"villain!");
        }),
        "bell-blocks" => blocking_bell(node),
        "bell-mute" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.free(&[handle]);
            // The node's bell, silenced: only the villain's own call waits for it.
            node.link_raw.write(64, &0u32.to_le_bytes());
            node.publish(&Node::reply(request.tag));
        }),
        _ => false,
    }
}

fn tail(node: &mut Node, jump: u32) -> bool {
    each(node, |node, _| {
        let mut now = [0u8; 4];
        node.link_raw.read(TAIL_OUT, &mut now);
        let tail = u32::from_le_bytes(now).wrapping_add(jump);
        node.link_raw.write(TAIL_OUT, &tail.to_le_bytes());
        node.ring();
        let _ = rustix::io::write(&node.eventfd, &1u64.to_ne_bytes());
    })
}

/// Publishes good answers while another thread writes over all slots: what the node copies may be either.
fn rewrite(node: &mut Node) -> bool {
    let entries = u64::from(node.hello.ring_entries);
    let scribbler = Arc::clone(&node.link_raw);
    std::thread::spawn(move || {
        let mut numbers = Numbers(0x1234_5678_9abc_def1);
        loop {
            let slot = numbers.draw() % entries;
            let word = numbers.draw() % 8;
            let at = 4096 + entries * 64 + slot * 64 + word * 8;
            scribbler.write(at, &numbers.draw().to_le_bytes());
            if slot == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    });
    each(node, |node, request| {
        let handle = node.accept(&request);
        node.depart(handle);
        for _ in 0..64 {
            let descriptor = Descriptor { body: extent(handle, 0, 8), ..Node::reply(request.tag) };
            node.push(&descriptor);
            node.push(&Descriptor { kind: Kind::Free as u8, ..descriptor });
        }
    })
}

/// The node's eventfd is one open file for both: it is made blocking, and emptied before the node reads it.
fn blocking_bell(node: &mut Node) -> bool {
    let _ = rustix::fs::fcntl_setfl(&node.eventfd, rustix::fs::OFlags::empty());
    let thief = node.eventfd.try_clone();
    if let Ok(thief) = thief {
        std::thread::spawn(move || {
            loop {
                let mut fds = [rustix::event::PollFd::new(&thief, rustix::event::PollFlags::IN)];
                let _ =
                    rustix::event::poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }));
                if fds[0].revents().contains(rustix::event::PollFlags::IN) {
                    let _ = rustix::io::read(&thief, &mut [0u8; 8]);
                }
            }
        });
    }
    each(node, |node, request| {
        for _ in 0..20_000 {
            let _ = rustix::io::write(&node.eventfd, &1u64.to_ne_bytes());
        }
        node.answer(&request, b"villain!");
    })
}
