//! The fast half of the scan: which stretches hold nothing that could begin a forbidden encoding.
//!
//! Written so that the compiler turns it into vector code: a fixed number of bytes a step, no branches within.

/// Offsets that are judged at once.
pub(super) const STRIDE: usize = 64;
/// The bytes behind an offset that its judgement takes into account.
const LOOKAHEAD: usize = 2;

/// How many offsets of `code` are clean, in whole strides; what follows them has to be looked at one by one for one
/// stride, or is the end.
pub(super) fn clean(code: &[u8]) -> usize {
    let mut at = 0;
    while let Some(window) = code.get(at..).and_then(<[u8]>::first_chunk::<{ STRIDE + LOOKAHEAD }>) {
        if is_suspect(window) {
            break;
        }
        at += STRIDE;
    }
    at
}

/// Whether one of the first [`STRIDE`] offsets begins with `0F` or a `REX2` prefix and an opcode that a forbidden encoding
/// has. Nearly never true of ordinary code, so that the exact judgement costs nothing.
fn is_suspect(window: &[u8; STRIDE + LOOKAHEAD]) -> bool {
    let mut found = 0;
    for at in 0..STRIDE {
        let [first, second, third] = [window[at], window[at + 1], window[at + 2]];
        let escaped = u8::from(first == 0x0f) & is_opcode(second);
        let extended = u8::from(first == 0xd5) & second >> 7 & is_opcode(third);
        found |= escaped | extended;
    }
    found != 0
}

/// 1 if a forbidden encoding has this opcode.
const fn is_opcode(byte: u8) -> u8 {
    (byte == 0x01) as u8 | (byte == 0xae) as u8 | (byte == 0xc7) as u8
}
