//! Text of bounded length that lies flat inside a wire layout: one length byte, then `N` bytes, the rest zero.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// At most `N` bytes of UTF-8 (`N` ≤ 255), stored in place. Alignment 1, size `N + 1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Text<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

/// Why a string does not fit into a [`Text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextError {
    /// Length of what was given, in bytes.
    pub len: usize,
    /// Most bytes that fit.
    pub max: usize,
}

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; N] };

    /// Stores `text`, or says by how much it is too long.
    pub const fn new(text: &str) -> Result<Self, TextError> {
        const { assert!(N <= u8::MAX as usize, "the length is one byte") };
        let from = text.as_bytes();
        if from.len() > N {
            return Err(TextError { len: from.len(), max: N });
        }
        let mut bytes = [0; N];
        bytes.split_at_mut(from.len()).0.copy_from_slice(from);
        #[expect(clippy::cast_possible_truncation, reason = "len ≤ N ≤ 255 was just checked")]
        Ok(Self { len: from.len() as u8, bytes })
    }

    /// Stores a literal. Refused by the compiler, in a constant, when it is too long.
    pub const fn literal(text: &'static str) -> Self {
        match Self::new(text) {
            Ok(text) => text,
            Err(_) => panic!("literal longer than its field"),
        }
    }

    /// The text. What a peer wrote and is not UTF-8 reads as empty, never as an error or a panic.
    pub fn as_str(&self) -> &str {
        let len = usize::from(self.len).min(N);
        self.bytes.get(..len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl<const N: usize> core::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl<const N: usize> core::fmt::Display for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_text_is_refused_with_both_lengths() {
        assert_eq!(Text::<4>::new("abcde").unwrap_err(), TextError { len: 5, max: 4 });
        assert_eq!(Text::<4>::new("äb").unwrap().as_str(), "äb");
    }

    #[test]
    fn bytes_from_a_lying_peer_read_as_empty() {
        let wild = Text::<3>::ref_from_bytes(&[255, 0xff, 0xfe, 0xfd]).unwrap();
        assert_eq!(wild.as_str(), "");
        let long = Text::<3>::ref_from_bytes(b"\xffabc").unwrap();
        assert_eq!(long.as_str(), "abc");
    }
}
