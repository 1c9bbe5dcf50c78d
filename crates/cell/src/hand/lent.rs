//! Pool buffers that are lent for a call, without a head: from words to words, as [`super::plain`] says.

use baton_abi::descriptor::DESCRIPTOR_WORDS;
use baton_abi::gate::{Pair, Parcel};
use baton_abi::{Flags, NONE, Rights};
use baton_pool::capability::Range;

use super::plain::nowhere;
use super::{Dispatch, HandError, Sent};
use crate::book::what;
use crate::runtime::Runtime;
use crate::seat::{Lent, Seat};

/// What a lent payload may be used for: the guest says so in the parcel.
pub(crate) const fn or_frozen(lend: Rights) -> Rights {
    if lend.0 == Rights::NONE.0 { Rights::FROZEN } else { lend }
}

/// Capability and range of what is lent, if that is all that is sent, and lies in the pool.
#[inline(always)]
fn lent(sent: Sent<'_>) -> Option<(Pair, Range)> {
    let name = sent.word(3);
    let pair = Pair { handle: (name & u64::from(NONE)) as u32, generation: (name >> 32) as u32 };
    let is_lent = sent.flags() == Flags::LEND && nowhere(sent.word(6)) && !what(pair.handle).is_mail();
    is_lent.then(|| (pair, Range { offset: sent.word(4), len: sent.word(5) }))
}

impl Runtime {
    /// Hands over a parcel that lends a buffer; `None` if it does not, or does more.
    #[inline(always)]
    pub(crate) fn hand_lent(
        &self,
        a: &Seat,
        b: &Seat,
        sent: Sent<'_>,
        as_what: &Dispatch,
        out: &mut Parcel,
    ) -> Result<Option<Lent>, HandError> {
        let Some((pair, range)) = lent(sent).filter(|_| !as_what.record) else { return Ok(None) };
        let rights = or_frozen(self.read_rights(a, sent.at).ok_or(HandError::Fault)?);
        if !Runtime::may_use_pool(b) {
            return Err(HandError::NoPool);
        }
        self.note_handed(range.len);
        let mut lent = None;
        let landed = self.lend(a, b, (pair, range), rights, &mut lent)?;
        let name = u64::from(landed.extent.handle) | u64::from(landed.extent.generation) << 32;
        let words: [u64; DESCRIPTOR_WORDS] = as_what.words(sent, [name, range.offset, range.len]);
        out.words = words;
        out.body_base = landed.base;
        out.body_capacity = landed.capacity;
        out.rights = u32::from(landed.rights.0);
        out.from = u32::from(a.holder());
        Ok(lent)
    }
}
