//! The lies, by what they are about.

pub mod boot;
pub mod death;
pub mod edge;
pub mod flood;
pub mod kernel;
pub mod reply;
pub mod ring;
pub mod table;

use crate::node::Node;

/// Lies about every request, and never stops.
pub fn each(node: &mut Node, mut lie: impl FnMut(&mut Node, baton_abi::Descriptor)) -> bool {
    loop {
        let request = node.request();
        lie(node, request);
    }
}

/// Does nothing more, for as long as it lives.
pub fn idle() -> ! {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
