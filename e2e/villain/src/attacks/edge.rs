//! Lies to honest functions of the same app over an edge, and to the node over the edge to the network.

use baton_abi::{Descriptor, Extent, Flags, Kind, NONE};
use baton_pool::capability::{Hold, State};

use super::death::{called, take};
use super::each;
use crate::node::{Node, Numbers, Road, extent, head};

/// Positions of an edge's two rings, by side: the tail of the one that it produces on.
const NEAR_TAIL: u64 = 128;
const FAR_TAIL: u64 = 256;

/// Runs `attack` if it is one of these.
pub fn run(attack: &str, node: &mut Node) -> bool {
    // The edge that it calls on leads to another function, or to the node.
    let on_its_call = attack.strip_prefix("to-callee-").or_else(|| attack.strip_prefix("to-network-"));
    if let Some(lie) = on_its_call {
        let lie = lie.to_owned();
        return each(node, |node, request| {
            to_callee(&lie, node);
            node.answer(&request, b"villain!");
        });
    }
    if let Some(lie) = attack.strip_prefix("to-caller-") {
        let lie = lie.to_owned();
        loop {
            let (index, request) = called(node);
            to_caller(&lie, node, index, &request);
        }
    }
    false
}

fn to_callee(lie: &str, node: &mut Node) {
    node.edges();
    let slots = node.hello.slots;
    let buffer = node.alloc(1000);
    let Some(Road { edge, duplex, raw, bell, bell_raw }) = node.road(true) else { return };
    let request = Descriptor { tag: 77, ..Descriptor::new(Kind::Request) };
    let bodies = [
        Extent { handle: slots - 1, generation: 1, offset: 0, len: 64 },
        Extent { handle: NONE - 1, generation: 1, offset: 0, len: 64 },
        Extent { handle: slots + 1, generation: 0, offset: u64::MAX, len: u64::MAX },
    ];
    match lie {
        "forged" => {
            for body in bodies {
                for flags in [Flags::MOVE, Flags::LEND, Flags::SHARE, Flags(0xff)] {
                    let _ = duplex.to_peer.push(&Descriptor { body, flags, ..request });
                    let at = baton_abi::HeadExtent {
                        handle: body.handle,
                        generation: 1,
                        offset: 9,
                        len: u32::MAX,
                    };
                    let _ = duplex.to_peer.push(&Descriptor { body, head: at, flags, ..request });
                }
            }
        }
        "held" => {
            // Sent and kept; sent twice.
            if let Some(buffer) = buffer {
                let _ = duplex.to_peer.push(&Descriptor { body: extent(buffer, 0, 8), ..request });
                let _ = duplex.to_peer.push(&Descriptor { body: extent(buffer, 0, 8), ..request });
                let at = head(buffer, u32::MAX, 7);
                let _ = duplex.to_peer.push(&Descriptor { body: extent(buffer, 0, 8), head: at, ..request });
            }
        }
        "overrun" => {
            raw.write(NEAR_TAIL, &90_000u32.to_le_bytes());
        }
        "noise" => {
            let mut numbers = Numbers(0xabcd_ef01_2345_6789);
            for _ in 0..400 {
                let mut words = core::array::from_fn(|_| numbers.draw());
                words[0] = words[0] & !0xff | (1 + numbers.draw() % 9);
                let _ = duplex.to_peer.push(&Descriptor::from_words(words));
            }
        }
        "bell" => {
            // Control messages that were never sent, and a load that is not there.
            bell_raw.write(4, &[9, 0, 0, 0]);
            bell_raw.write(8, &u32::MAX.to_le_bytes());
        }
        "close" => {
            raw.write(0, &1u32.to_le_bytes());
        }
        _ => {}
    }
    let _ = edge;
    bell.wake();
    bell.ring();
    std::thread::sleep(std::time::Duration::from_millis(30));
    bell.wake();
    if let Some(buffer) = buffer {
        node.free(&[buffer]);
    }
}

fn to_caller(lie: &str, node: &mut Node, index: usize, request: &Descriptor) {
    let id = node.roads[index].edge.id;
    let slots = node.hello.slots;
    if request.kind != Kind::Request as u8 {
        return;
    }
    let handle = take(node, id, request);
    let me = node.me();
    let reply = Node::reply(request.tag);
    let Road { duplex, raw, bell, bell_raw, .. } = &mut node.roads[index];
    let send = |duplex: &mut baton_pool::link::Duplex, descriptor: Descriptor| {
        let _ = duplex.to_peer.push(&descriptor);
    };
    match lie {
        "forged" => {
            let body = Extent { handle: slots - 1, generation: 1, offset: 0, len: 64 };
            send(duplex, Descriptor { body, ..reply });
        }
        "outside" => {
            let _ = node.table.transfer(handle, Hold::held(me), Hold::new(State::InFlight, id));
            send(duplex, Descriptor { body: extent(handle, 8, u64::MAX), ..reply });
        }
        "head" => {
            let _ = node.table.transfer(handle, Hold::held(me), Hold::new(State::InFlight, id));
            send(
                duplex,
                Descriptor { body: extent(handle, 0, 4), head: head(handle, u32::MAX, u32::MAX), ..reply },
            );
        }
        "unknown" => {
            for tag in 1..50 {
                send(duplex, Node::reply(tag ^ request.tag));
            }
        }
        "twice" => {
            for _ in 0..8 {
                send(duplex, reply);
            }
        }
        "noise" => {
            let mut numbers = Numbers(request.invocation | 1);
            for _ in 0..200 {
                let mut words = core::array::from_fn(|_| numbers.draw());
                words[0] = words[0] & !0xff | (1 + numbers.draw() % 9);
                send(duplex, Descriptor::from_words(words));
            }
            send(duplex, reply);
        }
        "overrun" => {
            raw.write(FAR_TAIL, &90_000u32.to_le_bytes());
        }
        "flood" => {
            // As many as the caller takes, for a second.
            let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
            while std::time::Instant::now() < until {
                send(duplex, Node::reply(u32::MAX));
            }
            send(duplex, reply);
        }
        "bell" => {
            bell_raw.write(4, &[9, 0, 0, 0]);
            send(duplex, reply);
        }
        "close" => {
            raw.write(0, &1u32.to_le_bytes());
        }
        "silence" => return,
        _ => {}
    }
    bell.wake();
    bell.ring();
}
