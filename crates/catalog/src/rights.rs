//! What a holder may do with a range of a buffer.
//!
//! Rights only ever shrink: the sole operation that derives rights from rights is [`Rights::narrowed`], an
//! intersection. There is deliberately no union of two holders' rights.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of rights: read, write, pass on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Rights(u8);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// May read the bytes.
    pub const READ: Self = Self(1);
    /// May write the bytes.
    pub const WRITE: Self = Self(2);
    /// May hand the capability on.
    pub const PASS: Self = Self(4);
    /// Everything: what the owner of a fresh buffer holds.
    pub const ALL: Self = Self(7);

    /// The rights that are in both sets.
    #[must_use]
    pub const fn narrowed(self, to: Self) -> Self {
        Self(self.0 & to.0)
    }

    /// This set of constants together with another; for writing down a set, not for deriving one.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every right of `need` is here.
    #[must_use]
    pub const fn contains(self, need: Self) -> bool {
        self.0 & need.0 == need.0
    }

    /// Whether no right is here.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The bits as they stand in shared layouts.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Rights from bits; nothing if an unknown bit is set.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }
}

impl From<Rights> for u8 {
    fn from(rights: Rights) -> Self {
        rights.0
    }
}

/// A bit that is no right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRight {
    /// The bits that were given.
    pub bits: u8,
}

impl fmt::Display for UnknownRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#05b} is not a set of rights; only the lowest three bits are", self.bits)
    }
}

impl std::error::Error for UnknownRight {}

impl TryFrom<u8> for Rights {
    type Error = UnknownRight;

    fn try_from(bits: u8) -> Result<Self, UnknownRight> {
        Self::from_bits(bits).ok_or(UnknownRight { bits })
    }
}

impl fmt::Display for Rights {
    /// `rwp` with a dash for each right that is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |right, letter| if self.contains(right) { letter } else { '-' };
        write!(f, "{}{}{}", letter(Self::READ, 'r'), letter(Self::WRITE, 'w'), letter(Self::PASS, 'p'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_never_adds_a_right() {
        for have in 0..8 {
            for to in 0..8 {
                let (have, to) = (Rights(have), Rights(to));
                let narrowed = have.narrowed(to);
                assert!(have.contains(narrowed) && to.contains(narrowed));
            }
        }
    }

    #[test]
    fn unknown_bits_are_refused() {
        assert_eq!(Rights::from_bits(7), Some(Rights::ALL));
        assert_eq!(Rights::from_bits(8), None);
        assert!(serde_json::from_str::<Rights>("9").is_err());
        assert_eq!(serde_json::from_str::<Rights>("3").unwrap(), Rights::READ.and(Rights::WRITE));
    }

    #[test]
    fn missing_rights_show_as_dashes() {
        assert_eq!(Rights::READ.and(Rights::PASS).to_string(), "r-p");
        assert_eq!(Rights::NONE.to_string(), "---");
    }
}
