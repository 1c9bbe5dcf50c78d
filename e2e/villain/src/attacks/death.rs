//! Death at every step of a hand-over. (The first process of a pid namespace cannot kill itself by a signal; it ends
//! on the spot instead, without giving anything back.)

use baton_abi::{Descriptor, Kind};
use baton_pool::capability::{Hold, State};

use super::each;
use crate::node::{Node, Road, extent};

/// Ends here.
fn die() -> ! {
    std::process::exit(13)
}

/// Runs `attack` if it is one of these.
pub fn run(attack: &str, node: &mut Node) -> bool {
    let attack = attack.to_owned();
    match attack.as_str() {
        "die-with-request" | "die-accepted" | "die-with-buffer" | "die-departed" | "die-published"
        | "die-answered" => each(node, |node, request| on_link(&attack, node, request)),
        "die-called" | "die-call-accepted" | "die-call-departed" | "die-call-published"
        | "die-call-answered" => as_callee(&attack, node),
        "die-calling" | "die-call-sent" | "die-call-rung" | "die-call-lent" => {
            each(node, |node, _| as_caller(&attack, node))
        }
        // Answers all that wait, and is gone before anyone can use the place that this frees.
        "die-behind-answers" => each(node, |node, request| {
            let handle = node.accept(&request);
            node.depart(handle);
            node.publish(&Descriptor { body: extent(handle, 0, 4), ..Node::reply(request.tag) });
            die();
        }),
        _ => false,
    }
}

fn on_link(attack: &str, node: &mut Node, request: Descriptor) {
    if attack == "die-with-request" {
        die();
    }
    let handle = node.accept(&request);
    if attack == "die-accepted" {
        die();
    }
    let Some(answer) = node.alloc(100_000) else { die() };
    node.fill(answer, &[7; 100]);
    if attack == "die-with-buffer" {
        die();
    }
    node.depart(answer);
    if attack == "die-departed" {
        die();
    }
    let reply = Descriptor { body: extent(answer, 0, 100), ..Node::reply(request.tag) };
    node.publish(&reply);
    if attack == "die-published" {
        die();
    }
    node.ring();
    node.free(&[handle]);
    die();
}

/// Waits for a request on an edge; the node's own are answered meanwhile.
pub fn called(node: &mut Node) -> (usize, Descriptor) {
    loop {
        node.edges();
        if let Ok(Some(descriptor)) = node.link.from_peer.pop()
            && descriptor.kind == Kind::Request as u8
        {
            node.answer(&descriptor, b"villain!");
        }
        for (index, road) in node.roads.iter_mut().enumerate().filter(|(_, road)| !road.edge.is_caller) {
            if let Ok(Some(descriptor)) = road.duplex.from_peer.pop() {
                return (index, descriptor);
            }
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
}

/// Takes what came over an edge.
pub fn take(node: &Node, id: u16, descriptor: &Descriptor) -> baton_pool::capability::Handle {
    let handle = baton_pool::capability::Handle {
        index: descriptor.body.handle,
        generation: descriptor.body.generation,
    };
    let _ = node.table.transfer(handle, Hold::new(State::InFlight, id), Hold::held(node.me()));
    handle
}

fn as_callee(attack: &str, node: &mut Node) -> bool {
    let (index, request) = called(node);
    if attack == "die-called" {
        die();
    }
    let id = node.roads[index].edge.id;
    let handle = take(node, id, &request);
    if attack == "die-call-accepted" {
        die();
    }
    let _ = node.table.transfer(handle, Hold::held(node.me()), Hold::new(State::InFlight, id));
    if attack == "die-call-departed" {
        die();
    }
    let road = &mut node.roads[index];
    let _ = road.duplex.to_peer.push(&Descriptor { body: request.body, ..Node::reply(request.tag) });
    if attack == "die-call-published" {
        die();
    }
    road.bell.ring();
    die();
}

fn as_caller(attack: &str, node: &mut Node) {
    let Some(buffer) = node.alloc(1000) else { die() };
    node.fill(buffer, b"from a villain");
    if attack == "die-calling" {
        die();
    }
    let me = node.me();
    let Some(Road { edge, duplex, bell, .. }) = node.road(true) else { die() };
    let to = Hold::new(State::InFlight, edge.id);
    let request = Descriptor { tag: 1, body: extent(buffer, 0, 14), ..Descriptor::new(Kind::Request) };
    if attack == "die-call-lent" {
        // Sent without being handed over: the callee finds that its sender still holds it.
        let _ = duplex.to_peer.push(&request);
        bell.ring();
        die();
    }
    let _ = duplex.to_peer.push(&request);
    let rung = attack == "die-call-rung";
    let bell = rung.then_some(bell);
    if let Some(bell) = bell {
        bell.ring();
    }
    let _ = node.table.transfer(buffer, Hold::held(me), to);
    die();
}
