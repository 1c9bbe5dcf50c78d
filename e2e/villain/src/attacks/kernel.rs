//! Lies to the kernel, where it hands over between replicas: it believes none, whatever they are about. One that it should believe ends
//! the villain with a status of its own.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use baton_abi::packet::{EDGES_MAX, Op, PACKET_BYTES, Packet};
use baton_abi::{Descriptor, Extent, Flags, Kind, NONE};
use baton_pool::capability::{Capability, Handle, Hold, State};
use baton_pool::region::{Access, Mapping};
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::each;
use crate::node::{Node, Numbers, extent};

/// Lies of each sort: more than a replica may tell in a row.
const TIMES: usize = 8;
/// How it ends when it was believed.
const BELIEVED: i32 = 77;

/// Runs `attack` if it is one of these.
pub fn run(attack: &str, node: &mut Node) -> bool {
    let Some(lie) = attack.strip_prefix("kernel-") else { return false };
    if let Some(lie) = lie.strip_prefix("callee-") {
        loop {
            let packet = called(node);
            as_callee(lie, node, &packet);
        }
    }
    let lie = lie.to_owned();
    each(node, |node, request| {
        node.edges();
        tell(&lie, node);
        // The node looks at what the kernel refused.
        std::thread::sleep(Duration::from_millis(50));
        node.answer(&request, b"villain!");
    })
}

fn bytes(packet: &Packet) -> Vec<u8> {
    packet.to_words().iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn socket(node: &Node) -> &OwnedFd {
    match &node.socket {
        Some((socket, _)) => socket,
        None => std::process::exit(78),
    }
}

fn write(node: &Node, bytes: &[u8], flags: SendFlags) {
    let _ = rustix::net::send(socket(node), bytes, flags | SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

fn send(node: &Node, packet: &Packet) {
    write(node, &bytes(packet), SendFlags::empty());
}

/// As [`send`], but waits where the node does not read fast enough: what is cut off is no packet, and ends its sender.
fn send_whole(node: &Node, packet: &Packet) {
    let _ = rustix::net::send(socket(node), &bytes(packet), SendFlags::NOSIGNAL);
}

/// What lies at the socket.
fn read(node: &Node) -> Vec<Packet> {
    let mut into = [0u8; 64 * PACKET_BYTES];
    match rustix::net::recv(socket(node), &mut into, RecvFlags::DONTWAIT) {
        Ok((read, _)) => into
            .as_chunks::<PACKET_BYTES>()
            .0
            .iter()
            .take(read / PACKET_BYTES)
            .map(Packet::from_bytes)
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// The edge on which it calls.
fn edge(node: &mut Node) -> u16 {
    node.road(true).map_or(0, |road| road.edge.id)
}

fn request(edge: u16, body: Extent) -> Packet {
    let descriptor = Descriptor { tag: 77, body, ..Descriptor::new(Kind::Request) };
    Packet { edge, written: body.offset.saturating_add(body.len), ..Packet::new(Op::Send, descriptor) }
}

fn inline(edge: u16) -> Packet {
    let mut packet = request(edge, Extent { handle: NONE, generation: 0, offset: 7, len: 8 });
    packet.descriptor.flags = Flags::INLINE;
    packet
}

/// Roots that others have: the node, or a replica.
fn foreign(node: &Node) -> Vec<Capability> {
    let me = node.me();
    let found = (0..node.hello.slots).filter_map(|slot| node.table.look(slot));
    let is_others = |found: &Capability| {
        let Hold { state, holder } = found.hold;
        holder != me && matches!(state, State::Held | State::Stashed)
    };
    found.filter(is_others).collect()
}

fn tell(lie: &str, node: &mut Node) {
    let own = edge(node);
    match lie {
        "undeclared" => {
            let others = (0..64).chain([EDGES_MAX - 1, EDGES_MAX, u16::MAX]).filter(|id| *id != own);
            others.for_each(|id| send(node, &inline(id)));
        }
        "foreign" | "foreign-ends" => {
            for found in foreign(node).iter().cycle().take(TIMES) {
                let Handle { index, generation } = found.handle;
                let body = Extent { handle: index, generation, offset: 0, len: 8 };
                if lie == "foreign" {
                    send(node, &request(own, body));
                } else {
                    for op in [Op::Restrict, Op::Release, Op::Revoke, Op::Derive] {
                        let descriptor = Descriptor { body, ..Descriptor::new(Kind::Request) };
                        let into = node.hello.derived_base;
                        send(node, &Packet { rights: 1, into, written: 8, ..Packet::new(op, descriptor) });
                    }
                }
                let still = node.table.look(index).filter(|now| now.handle == found.handle);
                if still.is_some_and(|now| now.hold == Hold::held(node.me())) {
                    std::process::exit(BELIEVED);
                }
            }
        }
        "stale" => {
            let Some(buffer) = node.alloc(100) else { return };
            for step in 1..=TIMES as u32 {
                let generation = buffer.generation.wrapping_add(step);
                send(node, &request(own, extent(Handle { generation, ..buffer }, 0, 8)));
            }
            node.free(&[buffer]);
        }
        "outside" => {
            let Some(buffer) = node.alloc(100) else { return };
            for (offset, len) in [(0, u64::MAX), (u64::MAX, 8), (1 << 40, 8), (u64::MAX, u64::MAX)] {
                let mut packet = request(own, extent(buffer, offset, len));
                packet.written = 64;
                send(node, &packet);
                let into = node.hello.derived_base;
                let mut lent = Packet { into, rights: 1, ..packet };
                lent.descriptor.flags = Flags::LEND;
                send(node, &lent);
            }
        }
        "double" => double(node, own),
        _ => write_badly(lie, node, own),
    }
}

/// Messages that are no packets, too many packets, and what no replica may say.
fn write_badly(lie: &str, node: &Node, own: u16) {
    match lie {
        "truncated" => write(node, &bytes(&inline(own))[..40], SendFlags::empty()),
        "oversized" => {
            for _ in 0..TIMES {
                write(node, &[0; 2 * PACKET_BYTES], SendFlags::empty());
            }
        }
        "split" => {
            let bytes = bytes(&inline(own));
            write(node, &bytes[..40], SendFlags::empty());
            write(node, &bytes[40..], SendFlags::empty());
        }
        "urgent" => write(node, &bytes(&inline(own)), SendFlags::OOB),
        "flood" => {
            let wake = Packet::new(Op::Wake, Descriptor::new(Kind::Cancel));
            until(Duration::from_millis(300), || send_whole(node, &wake));
            while !read(node).is_empty() {}
        }
        "calls" => {
            until(Duration::from_millis(100), || send_whole(node, &inline(own)));
            while !read(node).is_empty() {}
        }
        "direction" => {
            let mut reply = inline(own);
            reply.descriptor.kind = Kind::Reply as u8;
            (0..TIMES).for_each(|_| send(node, &reply));
        }
        "node" => {
            for op in [Op::NodeWake as u8, Op::Refused as u8, 0, 9, 99, 255] {
                send(node, &Packet { op, into: 0, ..inline(own) });
            }
        }
        "shutdown" => drop(rustix::net::shutdown(socket(node), Shutdown::Both)),
        "map" => {
            let table = node.socket.as_ref().map(|(_, table)| table);
            if table.is_some_and(|table| Mapping::new(table, 4096, Access::ReadWrite).is_ok()) {
                std::process::exit(BELIEVED);
            }
        }
        "noise" => {
            let mut numbers = Numbers(0xabcd_ef01_2345_6789);
            for _ in 0..400 {
                let mut words: [u64; 10] = core::array::from_fn(|_| numbers.draw());
                words[0] = words[0] & !0xffff_00ff | (1 + numbers.draw() % 8) | u64::from(own) << 16;
                words[2] = words[2] & !0xff | (1 + numbers.draw() % 9);
                send(node, &Packet::from_words(words));
                read(node);
            }
        }
        _ => {}
    }
}

fn until(span: Duration, mut act: impl FnMut()) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        act();
    }
}

/// Each buffer is sent by two threads at once; one of them gives it away.
fn double(node: &mut Node, own: u16) {
    let buffers: Vec<Handle> = (0..TIMES).filter_map(|_| node.alloc(100)).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (node, buffers) = (&*node, &buffers);
            scope.spawn(move || {
                for buffer in buffers {
                    for _ in 0..20 {
                        send(node, &request(own, extent(*buffer, 0, 8)));
                    }
                }
            });
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    while !read(node).is_empty() {}
}

/// Waits for a request of another replica; the node's own are answered meanwhile.
fn called(node: &mut Node) -> Packet {
    loop {
        node.edges();
        if let Ok(Some(descriptor)) = node.link.from_peer.pop()
            && descriptor.kind == Kind::Request as u8
        {
            node.answer(&descriptor, b"villain!");
        }
        let is_request =
            |packet: &Packet| packet.op == Op::Send as u8 && packet.descriptor.kind == Kind::Request as u8;
        if let Some(packet) = read(node).into_iter().find(is_request) {
            return packet;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn as_callee(lie: &str, node: &mut Node, request: &Packet) {
    let body = request.descriptor.body;
    let reply = |tag, body| {
        let descriptor = Descriptor { body, ..Node::reply(tag) };
        Packet { edge: request.edge, written: 64, ..Packet::new(Op::Send, descriptor) }
    };
    let tag = request.descriptor.tag;
    match lie {
        "twice" => (0..TIMES).for_each(|_| send(node, &reply(tag, Extent::EMPTY))),
        "unknown" => (1..50).for_each(|other| send(node, &reply(tag ^ other, Extent::EMPTY))),
        "foreign" => {
            for found in foreign(node).iter().take(TIMES) {
                let Handle { index, generation } = found.handle;
                send(node, &reply(tag, Extent { handle: index, generation, offset: 0, len: 8 }));
            }
        }
        "kept" => {
            // Given back and freed: the second is a lie.
            send(node, &reply(tag, Extent { len: 8.min(body.len), ..body }));
            node.free(&[Handle { index: body.handle, generation: body.generation }]);
        }
        _ => {}
    }
}
