//! What those look up who can only read the table.

use super::{CapabilityError, CapabilityTable, Handle, Hold, State};
use baton_abi::Rights;

impl CapabilityTable {
    /// The rights to what is in the hands of `by`: held, or stashed, which is its own affair where the kernel hands over.
    ///
    /// # Errors
    /// [`CapabilityError::Stale`], [`CapabilityError::NotHeld`], [`CapabilityError::Revoked`].
    #[inline]
    pub fn in_hands(&self, handle: Handle, by: u16) -> Result<Rights, CapabilityError> {
        let (_, word) = self.word(handle)?;
        if word.hold == Hold::held(by) || word.hold == Hold::new(State::Stashed, by) {
            return Ok(word.rights);
        }
        Err(match word.hold.state {
            State::Revoked => CapabilityError::Revoked { index: handle.index },
            _ => CapabilityError::NotHeld { index: handle.index, by: word.hold },
        })
    }

    /// The live capabilities in `derived` that descend from `handle`.
    #[must_use]
    pub fn live_below(&self, handle: Handle, derived: core::ops::Range<u32>) -> Vec<Handle> {
        let live = self.scan(derived).filter(|found| found.hold.state.is_live() && found.handle != handle);
        live.map(|found| found.handle).filter(|child| self.descends(*child, handle)).collect()
    }
}
