//! A guest that lies. What it does is its first argument; it behaves until its first request comes, unless the lie is
//! about starting up.
//!
//! It talks to the node on the raw layouts of `baton-abi` and `baton-pool`. Nothing here is what a function should do.

mod attacks;
mod node;

use attacks::{boot, death, edge, flood, kernel, reply, ring, table};
use node::Node;

fn main() {
    let attack = std::env::args().nth(1).unwrap_or_default();
    let control = Node::control();
    if boot::before(&attack) {
        return;
    }
    let Some(mut node) = Node::boot(control) else { return };
    if boot::instead_of_ready(&attack, &mut node) {
        return;
    }
    node.ready();
    boot::after(&attack, &mut node);
    let done = reply::run(&attack, &mut node)
        || ring::run(&attack, &mut node)
        || table::run(&attack, &mut node)
        || flood::run(&attack, &mut node)
        || death::run(&attack, &mut node)
        || edge::run(&attack, &mut node)
        || kernel::run(&attack, &mut node);
    if !done {
        serve(&mut node);
    }
}

/// Answers every request.
fn serve(node: &mut Node) {
    loop {
        let request = node.request();
        node.answer(&request, b"villain!");
    }
}
