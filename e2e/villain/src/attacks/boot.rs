//! Lies about starting up, and about the control socket.

use crate::node::Node;

/// Before the mappings came. `true`: that was all.
pub fn before(attack: &str) -> bool {
    match attack {
        "boot-exit" => std::process::exit(7),
        // The process goes on without ever taking what the node sent.
        "boot-deaf" => super::idle(),
        _ => false,
    }
}

/// Instead of saying that it is ready.
pub fn instead_of_ready(attack: &str, node: &mut Node) -> bool {
    match attack {
        "boot-exit-late" => std::process::exit(8),
        "boot-wrong-byte" => {
            node.say(b'?');
            super::idle()
        }
        "boot-close" => {
            node.control = None;
            super::idle()
        }
        "boot-chatter" => loop {
            node.say(b'R');
            node.say(0);
        },
        // Garbage on the link before it is ready.
        "boot-talk" => {
            for kind in 0..=255u8 {
                let words = [u64::from(kind), u64::MAX, u64::MAX, u64::MAX, 0, 0, 0, 0];
                node.push(&baton_abi::Descriptor::from_words(words));
            }
            super::idle()
        }
        _ => false,
    }
}

/// Once it is ready.
pub fn after(attack: &str, node: &mut Node) {
    if attack == "close-control" {
        node.edges();
        node.control = None;
    }
    if attack == "exit-when-ready" {
        std::process::exit(9);
    }
}
