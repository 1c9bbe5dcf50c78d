//! What a capability allows.

/// A set of rights. Narrowing only narrows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(pub u8);

impl Rights {
    /// None at all.
    pub const NONE: Rights = Rights(0);
    /// The bytes may be read.
    pub const READ: Rights = Rights(1);
    /// The bytes may be written.
    pub const WRITE: Rights = Rights(2);
    /// The capability, or one derived from it, may be handed to another function.
    pub const PASS: Rights = Rights(4);
    /// Everything: what the owner of a fresh buffer has.
    pub const ALL: Rights = Rights(7);
    /// Read and pass on: what freezing leaves.
    pub const FROZEN: Rights = Rights(5);

    /// Whether all of `other` are in the set.
    #[must_use]
    pub const fn allows(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both sets have.
    #[must_use]
    pub const fn intersect(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }
}

impl core::fmt::Display for Rights {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (right, letter) in [(Rights::READ, "r"), (Rights::WRITE, "w"), (Rights::PASS, "p")] {
            f.write_str(if self.allows(right) { letter } else { "-" })?;
        }
        Ok(())
    }
}
