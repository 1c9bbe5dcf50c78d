//! References: what makes a range of a pool reachable from another node, and the secrets that vouch for them.
//!
//! ```text
//!  token  0                16               32
//!         id: random bits  keyed BLAKE3 over id, app, holder, receiver, buffer, generation, range, rights, expiry, retrievals
//! ```
//! The key is derived for each pair of app and receiver from a secret of this node that is drawn at its start, is never
//! stored, and changes by `Keys::rotate`; the one before is good until the next change.

use core::fmt;

use constant_time_eq::constant_time_eq_16;

/// What a receiver shows to get its bytes. Says nothing to anyone who reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// The random half of a token, under which the vault finds a hold.
pub type TokenId = [u8; 16];

impl Token {
    /// As it came over the wire.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Token {
        Token(bytes)
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    pub(crate) fn new(id: TokenId, mac: [u8; 16]) -> Token {
        let mut bytes = [0; 32];
        let (left, right) = bytes.split_at_mut(16);
        left.copy_from_slice(&id);
        right.copy_from_slice(&mac);
        Token(bytes)
    }

    fn half<const AT: usize>(&self) -> [u8; 16] {
        self.0.get(AT..AT + 16).and_then(|half| half.try_into().ok()).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> TokenId {
        self.half::<0>()
    }

    pub(crate) fn mac(&self) -> [u8; 16] {
        self.half::<16>()
    }
}

/// A token must not end up in a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a frame carries instead of bytes. It names no address: a holder is reached where the members of the cluster say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What the holder wants to see.
    pub token: Token,
    /// Bytes.
    pub len: u64,
}

/// What a token is bound to.
pub(crate) struct Bound<'a> {
    pub(crate) app: &'a str,
    pub(crate) holder: &'a str,
    pub(crate) receiver: &'a str,
    pub(crate) buffer: u32,
    pub(crate) generation: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) rights: u8,
    pub(crate) expires_us: u64,
    pub(crate) retrievals: u16,
}

/// The system gives no random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandom;

impl fmt::Display for NoRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gives no random bits")
    }
}

impl std::error::Error for NoRandom {}

/// Fills `out` with random bits: the system's, or a test's own.
pub(crate) type Draw = Box<dyn FnMut(&mut [u8]) -> Result<(), NoRandom> + Send>;

/// The system's random bits.
pub(crate) fn system() -> Draw {
    Box::new(|out| getrandom::fill(out).map_err(|_| NoRandom))
}

/// The secrets that tokens are made with.
pub(crate) struct Keys {
    current: [u8; 32],
    previous: Option<[u8; 32]>,
    draw: Draw,
}

impl Keys {
    pub(crate) fn new(mut draw: Draw) -> Result<Keys, NoRandom> {
        let mut current = [0; 32];
        draw(&mut current)?;
        Ok(Keys { current, previous: None, draw })
    }

    /// A new secret; the one that it replaces still vouches for what was made with it, the one before no more.
    pub(crate) fn rotate(&mut self) -> Result<(), NoRandom> {
        let mut next = [0; 32];
        (self.draw)(&mut next)?;
        self.previous = Some(core::mem::replace(&mut self.current, next));
        Ok(())
    }

    pub(crate) fn make(&mut self, bound: &Bound<'_>) -> Result<Token, NoRandom> {
        let mut id = [0; 16];
        (self.draw)(&mut id)?;
        Ok(Token::new(id, mac(&self.current, id, bound)))
    }

    /// Whether `token` was made for exactly `bound`. Takes the same time whichever bytes differ.
    pub(crate) fn vouch(&self, token: &Token, bound: &Bound<'_>) -> bool {
        let made_with = |key: &[u8; 32]| constant_time_eq_16(&mac(key, token.id(), bound), &token.mac());
        let (current, previous) = (made_with(&self.current), self.previous.as_ref().is_some_and(made_with));
        current | previous
    }
}

/// A name with its length before it, so that no two lists of names look alike.
fn name(hasher: &mut blake3::Hasher, name: &str) {
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
}

fn mac(secret: &[u8; 32], id: TokenId, bound: &Bound<'_>) -> [u8; 16] {
    let mut pair = blake3::Hasher::new_keyed(secret);
    name(&mut pair, bound.app);
    name(&mut pair, bound.receiver);
    let mut hasher = blake3::Hasher::new_keyed(pair.finalize().as_bytes());
    hasher.update(&id);
    for each in [bound.app, bound.holder, bound.receiver] {
        name(&mut hasher, each);
    }
    hasher.update(&bound.buffer.to_le_bytes());
    hasher.update(&bound.generation.to_le_bytes());
    for each in [bound.offset, bound.len, bound.expires_us] {
        hasher.update(&each.to_le_bytes());
    }
    hasher.update(&[bound.rights]);
    hasher.update(&bound.retrievals.to_le_bytes());
    let mut mac = [0; 16];
    hasher.finalize_xof().fill(&mut mac);
    mac
}
