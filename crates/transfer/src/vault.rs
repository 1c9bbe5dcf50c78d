//! What this node holds for others to pull.
//!
//! ```text
//!            hold                 open (a retrieval begins)            acknowledge × retrievals
//!  (none) ─────────▶ held ──────────────────────────────────▶ held ─────────────────────────────▶ gone
//!                     │                                          │   revoke, expiry: gone for everyone at once;
//!                     └──────────────────────────────────────────┘   a lane that sends from it resets its connection
//! ```
//! Sending deletes nothing: only an acknowledgement, revocation or the end of its time does. Memory goes when the vault's clone of
//! it and those of all leases are gone; a lane keeps its lease for as long as the kernel may read the pages.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::limits::{ENDED_MAX, HOLD_MAX, Limits, RETRIEVALS_MAX};
use crate::payload::Held;
use crate::reference::{Bound, Draw, Keys, NoRandom, Reference, Token, TokenId};

/// Time since a start of the owner's choosing.
pub type Now = Duration;

/// The right that a reference gives; there is no other.
const RIGHTS_READ: u8 = 1;

/// For how long and how often a hold may be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// From now on.
    pub expires: Duration,
    /// Acknowledgements after which it is gone.
    pub retrievals: u16,
}

/// Why bytes are not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldError {
    /// The app has as many bytes held as it may.
    Quota {
        /// The app.
        app: String,
        /// Bytes that it has held.
        held: u64,
        /// Bytes that it may have held.
        limit: u64,
    },
    /// The node holds as much as it can count.
    Crowded,
    /// No such terms: no time, no or too many retrievals.
    Terms,
    /// The system gives no random bits.
    NoRandom,
}

impl fmt::Display for HoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HoldError::Quota { app, held, limit } => write!(
                f,
                "app `{app}` has {held} bytes waiting to be pulled by other nodes, {limit} is the most; retry later"
            ),
            HoldError::Crowded => {
                f.write_str("too many payloads wait to be pulled by other nodes; retry later")
            }
            HoldError::Terms => write!(
                f,
                "a payload is held for 1 µs to {} h and 1 to {RETRIEVALS_MAX} retrievals",
                HOLD_MAX.as_secs() / 3600
            ),
            HoldError::NoRandom => NoRandom.fmt(f),
        }
    }
}

impl std::error::Error for HoldError {}

/// Why a peer does not get what a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// No such hold, or none that is remembered.
    Unknown,
    /// There is such a hold, but this node did not make this token.
    Forged,
    /// It is for another node.
    Foreign,
    /// Its time is over.
    Expired,
    /// Its owner took it back.
    Revoked,
    /// It was retrieved and acknowledged.
    Acknowledged,
    /// As many retrievals as there may be have begun.
    Exhausted,
    /// More was asked for than it covers.
    Range,
    /// The peer has too many pulls on one lane.
    Crowded,
}

impl Refusal {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Refusal; 9] = [
        Refusal::Unknown,
        Refusal::Forged,
        Refusal::Foreign,
        Refusal::Expired,
        Refusal::Revoked,
        Refusal::Acknowledged,
        Refusal::Exhausted,
        Refusal::Range,
        Refusal::Crowded,
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Unknown => "the holder does not know it",
            Refusal::Forged => "it was not made by the holder",
            Refusal::Foreign => "it is for another node",
            Refusal::Expired => "its time is over",
            Refusal::Revoked => "its owner took it back",
            Refusal::Acknowledged => "it was retrieved already",
            Refusal::Exhausted => "it is being retrieved as often as it may be",
            Refusal::Range => "it covers fewer bytes",
            Refusal::Crowded => "the holder has too many pulls on this connection",
        })
    }
}

/// The right to send from a hold, which its lane keeps until the kernel reads the memory no more.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) held: Held,
    pub(crate) token: TokenId,
    over: Arc<AtomicBool>,
}

impl Lease {
    /// Whether the hold has ended in any way: nothing more may be taken from it.
    pub(crate) fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

struct Hold {
    held: Held,
    receiver: String,
    expires: Now,
    retrievals: u16,
    begun: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    over: Arc<AtomicBool>,
}

/// One hold, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    /// The app.
    pub app: String,
    /// The node that may pull it.
    pub receiver: String,
    /// Index and generation of the buffer.
    pub buffer: (u32, u32),
    /// Bytes.
    pub len: u64,
    /// What is left of its time.
    pub expires: Duration,
    /// Retrievals that may be.
    pub retrievals: u16,
    /// … have begun.
    pub begun: u16,
    /// … are acknowledged.
    pub acknowledged: u16,
}

/// What a peer asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) peer: &'a str,
    pub(crate) token: Token,
    pub(crate) retrieval: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// The holds of one endpoint.
pub(crate) struct Vault {
    node: String,
    keys: Keys,
    holds: HashMap<TokenId, Hold>,
    bytes: BTreeMap<String, u64>,
    expiries: BTreeSet<(Now, TokenId)>,
    ended: HashMap<TokenId, Refusal>,
    ended_order: VecDeque<TokenId>,
    holds_max: usize,
    bytes_max: u64,
}

impl Vault {
    pub(crate) fn new(node: &str, limits: &Limits, draw: Draw) -> Result<Vault, NoRandom> {
        Ok(Vault {
            node: node.to_owned(),
            keys: Keys::new(draw)?,
            holds: HashMap::new(),
            bytes: BTreeMap::new(),
            expiries: BTreeSet::new(),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            holds_max: limits.holds,
            bytes_max: limits.held_bytes,
        })
    }

    /// Holds bytes for `receiver`.
    pub(crate) fn hold(
        &mut self,
        now: Now,
        receiver: &str,
        held: Held,
        terms: Terms,
    ) -> Result<Reference, HoldError> {
        let Terms { expires, retrievals } = terms;
        if retrievals == 0 || retrievals > RETRIEVALS_MAX || expires.is_zero() || expires > HOLD_MAX {
            return Err(HoldError::Terms);
        }
        if self.holds.len() >= self.holds_max {
            return Err(HoldError::Crowded);
        }
        let (len, taken) = (held.len(), self.bytes.get(held.app()).copied().unwrap_or(0));
        if taken.saturating_add(len) > self.bytes_max {
            return Err(HoldError::Quota { app: held.app().to_owned(), held: taken, limit: self.bytes_max });
        }
        let hold = Hold {
            receiver: receiver.to_owned(),
            expires: now + expires,
            retrievals,
            begun: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            over: Arc::new(AtomicBool::new(false)),
            held,
        };
        let token = self.keys.make(&hold.bound(&self.node)).map_err(|_| HoldError::NoRandom)?;
        *self.bytes.entry(hold.held.app().to_owned()).or_default() += len;
        self.expiries.insert((hold.expires, token.id()));
        self.holds.insert(token.id(), hold);
        Ok(Reference { token, len })
    }

    /// Begins a retrieval, or goes on with one that began: the bytes may be sent for as long as the lease is not over.
    pub(crate) fn open(&mut self, now: Now, wanted: Wanted<'_>) -> Result<Lease, Refusal> {
        self.expire(now);
        let hold = find(&mut self.holds, &self.keys, &self.ended, &self.node, &wanted.token, wanted.peer)?;
        let within = wanted.offset.checked_add(wanted.len).is_some_and(|end| end <= hold.held.len());
        if !within {
            return Err(Refusal::Range);
        }
        if hold.acknowledged.contains(&wanted.retrieval) {
            return Err(Refusal::Acknowledged);
        }
        if !hold.begun.contains(&wanted.retrieval) {
            if hold.begun.len() >= usize::from(hold.retrievals) {
                return Err(Refusal::Exhausted);
            }
            hold.begun.insert(wanted.retrieval);
        }
        Ok(Lease { held: hold.held.clone(), token: wanted.token.id(), over: Arc::clone(&hold.over) })
    }

    /// One retrieval is done, or will never be. Saying so again changes nothing.
    pub(crate) fn acknowledge(
        &mut self,
        now: Now,
        peer: &str,
        token: Token,
        retrieval: u64,
    ) -> Result<(), Refusal> {
        self.expire(now);
        let hold = match find(&mut self.holds, &self.keys, &self.ended, &self.node, &token, peer) {
            Err(Refusal::Acknowledged) => return Ok(()),
            other => other?,
        };
        if !hold.begun.contains(&retrieval) && hold.begun.len() >= usize::from(hold.retrievals) {
            return Err(Refusal::Exhausted);
        }
        hold.begun.insert(retrieval);
        hold.acknowledged.insert(retrieval);
        if hold.acknowledged.len() >= usize::from(hold.retrievals) {
            self.end(token.id(), Refusal::Acknowledged);
        }
        Ok(())
    }

    /// Takes one hold back, if it is still there.
    pub(crate) fn revoke(&mut self, token: Token) -> bool {
        self.end(token.id(), Refusal::Revoked)
    }

    /// Takes back all holds that `which` names; how many those were.
    pub(crate) fn revoke_where(&mut self, which: impl Fn(&Held, &str) -> bool) -> usize {
        let chosen = self.holds.iter().filter(|(_, hold)| which(&hold.held, &hold.receiver));
        let ids: Vec<TokenId> = chosen.map(|(id, _)| *id).collect();
        ids.iter().filter(|id| self.end(**id, Refusal::Revoked)).count()
    }

    /// Ends what has outlived its time; whether anything has.
    pub(crate) fn expire(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(&(_, id)) = self.expiries.first().filter(|(at, _)| *at <= now) {
            any |= self.end(id, Refusal::Expired);
        }
        any
    }

    /// New secret for new tokens.
    pub(crate) fn rotate(&mut self) -> Result<(), NoRandom> {
        self.keys.rotate()
    }

    /// Holds that there are.
    pub(crate) fn len(&self) -> usize {
        self.holds.len()
    }

    pub(crate) fn rows(&self, now: Now) -> Vec<HeldRow> {
        let count = |set: &BTreeSet<u64>| u16::try_from(set.len()).unwrap_or(u16::MAX);
        let row = |hold: &Hold| HeldRow {
            app: hold.held.app().to_owned(),
            receiver: hold.receiver.clone(),
            buffer: hold.held.buffer(),
            len: hold.held.len(),
            expires: hold.expires.saturating_sub(now),
            retrievals: hold.retrievals,
            begun: count(&hold.begun),
            acknowledged: count(&hold.acknowledged),
        };
        self.holds.values().map(row).collect()
    }

    fn end(&mut self, id: TokenId, why: Refusal) -> bool {
        let Some(hold) = self.holds.remove(&id) else { return false };
        hold.over.store(true, Ordering::Release);
        self.expiries.remove(&(hold.expires, id));
        let app = hold.held.app();
        if let Some(bytes) = self.bytes.get_mut(app) {
            *bytes = bytes.saturating_sub(hold.held.len());
            if *bytes == 0 {
                self.bytes.remove(app);
            }
        }
        if self.ended_order.len() >= ENDED_MAX
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.ended_order.push_back(id);
        self.ended.insert(id, why);
        true
    }
}

impl Hold {
    fn bound<'a>(&'a self, holder: &'a str) -> Bound<'a> {
        let (buffer, generation) = self.held.buffer();
        Bound {
            app: self.held.app(),
            holder,
            receiver: &self.receiver,
            buffer,
            generation,
            offset: self.held.file(0).1,
            len: self.held.len(),
            rights: RIGHTS_READ,
            expires_us: u64::try_from(self.expires.as_micros()).unwrap_or(u64::MAX),
            retrievals: self.retrievals,
        }
    }
}

/// The hold that `token` opens to `peer`. What others may learn of it depends on nothing but whether the token is true.
fn find<'a>(
    holds: &'a mut HashMap<TokenId, Hold>,
    keys: &Keys,
    ended: &HashMap<TokenId, Refusal>,
    node: &str,
    token: &Token,
    peer: &str,
) -> Result<&'a mut Hold, Refusal> {
    let Some(hold) = holds.get_mut(&token.id()) else {
        return Err(ended.get(&token.id()).copied().unwrap_or(Refusal::Unknown));
    };
    if !keys.vouch(token, &hold.bound(node)) {
        return Err(Refusal::Forged);
    }
    if hold.receiver != peer {
        return Err(Refusal::Foreign);
    }
    Ok(hold)
}

#[cfg(test)]
mod tests;
