//! What a cell says to the node: requests for buffers, and lines of output.

use std::collections::VecDeque;

use baton_abi::{Descriptor, Extent, Kind};

/// A request to the node for buffers.
pub(crate) fn ask(kind: Kind, tag: u32, count: u16, bytes: u64) -> Descriptor {
    let body = Extent { len: bytes, ..Extent::EMPTY };
    Descriptor { tag, code: count, body, ..Descriptor::new(kind) }
}

/// Lines of output that are not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    parts: VecDeque<(u8, u32, Vec<u8>)>,
}

impl Lines {
    /// Adds output of a seat; gives the lines that are complete.
    pub(crate) fn add(&mut self, seat: u8, stream: u32, bytes: &[u8], max: usize) -> Vec<Vec<u8>> {
        let found = self.parts.iter().position(|(of, on, _)| (*of, *on) == (seat, stream));
        let mut part = found.and_then(|at| self.parts.remove(at)).map(|(.., part)| part).unwrap_or_default();
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' || part.len() >= max {
                lines.push(core::mem::take(&mut part));
            }
            if byte != b'\n' {
                part.push(byte);
            }
        }
        if !part.is_empty() {
            self.parts.push_back((seat, stream, part));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_their_parts() {
        let mut lines = Lines::default();
        assert!(lines.add(1, 2, b"hel", 8).is_empty());
        assert!(lines.add(2, 2, b"other", 8).is_empty());
        assert_eq!(lines.add(1, 2, b"lo\nwor", 8), [b"hello".to_vec()]);
        assert_eq!(lines.add(1, 2, b"ld, long\n", 8), [b"world, l".to_vec(), b"ong".to_vec()]);
    }
}
