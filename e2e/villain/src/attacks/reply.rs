//! Lies in answers: what they carry, where it lies, whose call they answer.

use baton_abi::{Descriptor, Extent, Flags, Kind, NONE, Rights};
use baton_pool::capability::{Derivation, Handle, Hold, Range, State};

use super::each;
use crate::node::{Node, extent, head};

/// Runs `attack` if it is one of these.
pub fn run(attack: &str, node: &mut Node) -> bool {
    let me = node.me();
    match attack {
        "forged-index" => {
            bare(node, |node| Extent { handle: node.hello.slots - 1, generation: 1, offset: 0, len: 8 })
        }
        "index-beyond" => {
            bare(node, |node| Extent { handle: node.hello.slots + 5, generation: 0, offset: 0, len: 8 })
        }
        "index-max" => bare(node, |_| Extent { handle: NONE - 1, generation: 1, offset: 0, len: 8 }),
        "stale" => own(node, |mut body| {
            body.generation = body.generation.wrapping_sub(1);
            body
        }),
        "offset-outside" => own(node, |body| Extent { offset: 1 << 20, ..body }),
        "len-outside" => own(node, |body| Extent { len: 1 << 20, ..body }),
        "wrapping" => own(node, |body| Extent { offset: u64::MAX - 3, len: 8, ..body }),
        "wrapping-len" => own(node, |body| Extent { offset: 8, len: u64::MAX - 3, ..body }),
        // A buffer that is its own, but was never put on its way.
        "not-sent" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.push(&Descriptor { body: extent(handle, 0, 8), ..Node::reply(request.tag) });
        }),
        // What the node is still sending.
        "not-taken" => each(node, |node, request| {
            node.push(&Descriptor { body: request.body, head: request.head, ..Node::reply(request.tag) });
        }),
        "head-outside" => heads(node, |handle| head(handle, 1 << 20, 64)),
        "head-wraps" => heads(node, |handle| head(handle, u32::MAX, u32::MAX)),
        "head-garbage" => heads(node, |handle| head(handle, 0, 64)),
        // A head larger than any link carries: the node must not copy megabytes because it is told to.
        "head-huge" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.free(&[handle]);
            let Some(large) = node.alloc(2 << 20) else { return };
            node.depart(large);
            node.push(&Descriptor { head: head(large, 0, 2 << 20), ..Node::reply(request.tag) });
        }),
        // An error whose message is megabytes of what is not text.
        "error-huge" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.free(&[handle]);
            let Some(large) = node.alloc(2 << 20) else { return };
            node.fill(large, &[0xff; 2 << 20]);
            node.depart(large);
            let body = extent(large, 0, 2 << 20);
            node.push(&Descriptor { flags: Flags::ERROR, code: 555, body, ..Node::reply(request.tag) });
        }),
        "head-of-derived" => each(node, |node, request| {
            let root = node.accept(&request);
            let what = Derivation {
                range: Range { offset: 0, len: 8 },
                rights: Rights::FROZEN,
                expiry_ns: 0,
                to: Hold::new(State::ToNode, me),
            };
            let derived = node.table.derive(root, me, node.hello.derived_base, what);
            if let Ok(derived) = derived {
                let at = head(derived, 0, 8);
                node.push(&Descriptor { body: extent(derived, 0, 8), head: at, ..Node::reply(request.tag) });
            }
        }),
        // A derived capability that says that it lies elsewhere.
        "derived-elsewhere" => each(node, |node, request| {
            let index = node.hello.derived_base;
            let forged = Handle { index, generation: 9 };
            let mut words = crate::node::entry(forged, State::ToNode as u8, me, 7);
            words[5] = u64::from(node.hello.slots - 1) | 1 << 32;
            words[2] = u64::MAX;
            node.overwrite(index, words);
            node.push(&Descriptor { body: extent(forged, 1 << 40, 1 << 40), ..Node::reply(request.tag) });
        }),
        "inline-huge" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.free(&[handle]);
            let body = Extent { handle: NONE, generation: 0, offset: u64::MAX, len: u64::MAX };
            node.push(&Descriptor { flags: Flags::INLINE, body, ..Node::reply(request.tag) });
        }),
        "all-flags" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.depart(handle);
            let body = extent(handle, 0, 8);
            node.push(&Descriptor { flags: Flags(0xff), body, code: u16::MAX, ..Node::reply(request.tag) });
        }),
        "reply-twice" => each(node, |node, request| {
            node.answer(&request, b"villain!");
            let again = Node::reply(request.tag);
            node.push(&again);
            node.push(&again);
            node.push(&again);
        }),
        "unknown-tag" => each(node, |node, request| {
            for tag in [request.tag ^ 1, request.tag.wrapping_add(1 << 16), u32::MAX] {
                node.push(&Node::reply(tag));
            }
        }),
        "unknown-kinds" => each(node, |node, _| {
            for kind in [0, 10, 255, Kind::Request as u8, Kind::Grant as u8] {
                node.push(&Descriptor { kind, ..Descriptor::new(Kind::Reply) });
            }
        }),
        "receipts" => receipts(node),
        _ => false,
    }
}

fn bare(node: &mut Node, body: impl Fn(&Node) -> Extent) -> bool {
    each(node, |node, request| {
        let body = body(node);
        node.push(&Descriptor { body, ..Node::reply(request.tag) });
    })
}

/// A buffer of its own on its way, with a lie about it; it stays behind.
fn own(node: &mut Node, lie: impl Fn(Extent) -> Extent) -> bool {
    each(node, |node, request| {
        let handle = node.accept(&request);
        node.depart(handle);
        node.push(&Descriptor { body: lie(extent(handle, 0, 8)), ..Node::reply(request.tag) });
    })
}

fn heads(node: &mut Node, lie: impl Fn(Handle) -> baton_abi::HeadExtent) -> bool {
    each(node, |node, request| {
        let answer = node.accept(&request);
        node.fill(answer, &[0xa5; 128]);
        node.depart(answer);
        let body = extent(answer, 64, 8);
        node.push(&Descriptor { body, head: lie(answer), ..Node::reply(request.tag) });
    })
}

/// Costs of everybody's invocations, as absurd as they can be.
fn receipts(node: &mut Node) -> bool {
    each(node, |node, request| {
        for step in 0..200u64 {
            let invocation = request.invocation.wrapping_sub(4).wrapping_add(step % 6);
            let absurd = baton_abi::descriptor::HopCost {
                began_ns: u64::MAX,
                invocation,
                caller: u16::MAX,
                copies: u16::MAX,
                crossings: u32::MAX,
                bytes_copied: u64::MAX,
                bytes_handed: u64::MAX,
                cpu_ns: u64::MAX,
                wall_ns: u64::MAX,
                switches: u32::MAX,
                operation: u16::MAX,
                status: u16::MAX,
            };
            while !node.push(&Descriptor::from_words(absurd.to_words())) {
                std::thread::yield_now();
            }
        }
        node.answer(&request, b"villain!");
    })
}
