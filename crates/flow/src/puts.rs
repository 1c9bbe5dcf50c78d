//! Payloads that functions put up for others: `put` and `get` as in XDT, on capabilities.
//!
//! ```text
//!   put ──▶ the node holds the payload where it lies ──▶ 96 bytes that only this node can read
//!   get ──▶ this node's: a capability to read it, one a reader        another node's: pulled out of its pool
//! ```
//!
//! What is put up stays until it was got as often as its owner said, or its time is over, or it is forgotten. Whatever of it
//! is being read then is read to its end: a reader has a capability of its own.

pub(crate) mod serve;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::limits::NAME_MAX_BYTES;
use baton_abi::reference::{REFERENCE_BYTES, REFERENCE_VERSION};
use baton_pool::capability::{Handle, Range};
use baton_pool::pool::{OwnArena, ShareError};
use bytes::Buf;

use crate::app::App;
use crate::error::InvokeError;
use crate::invoke::Body;

/// Payloads that one app may have put up at once.
pub(crate) const PUTS_MAX: usize = 1024;
/// How often one may be got at most.
pub(crate) const READERS_MAX: u32 = 65_536;
/// How long one stays, where its owner does not say.
pub(crate) const TTL_DEFAULT: Duration = Duration::from_secs(60);
/// How long one stays at most.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(900);

const NODE_AT: usize = 2;
const ID_AT: usize = NODE_AT + NAME_MAX_BYTES;
const ID_BYTES: usize = 16;
const LEN_AT: usize = ID_AT + ID_BYTES;
const MAC_AT: usize = LEN_AT + 8;
const MAC_BYTES: usize = 16;
const _: () = assert!(MAC_AT + MAC_BYTES <= REFERENCE_BYTES);

type Id = [u8; ID_BYTES];

/// A reference as it is passed around.
pub(crate) type Reference = [u8; REFERENCE_BYTES];

struct Put {
    body: Rc<Body>,
    readers_left: u32,
    expires: Instant,
}

/// Why there is nothing to be had for a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is none, or one that this app did not make.
    Forged,
    /// What was behind it is not there any more.
    Over,
}

/// What references of an app came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PutCounts {
    pub(crate) put: u64,
    pub(crate) got: u64,
    pub(crate) forged: u64,
    pub(crate) over: u64,
}

/// Everything that an app's functions have put up on this node.
pub(crate) struct Puts {
    key: [u8; blake3::KEY_LEN],
    held: BTreeMap<Id, Put>,
    bytes: u64,
    arena: Option<OwnArena>,
    pub(crate) counts: PutCounts,
}

impl Puts {
    pub(crate) fn new() -> Puts {
        // Without randomness nothing is put up: see `put`.
        let mut key = [0; blake3::KEY_LEN];
        fill(&mut key);
        Puts { key, held: BTreeMap::new(), bytes: 0, arena: None, counts: PutCounts::default() }
    }

    /// How many are up, and their bytes.
    pub(crate) fn usage(&self) -> (usize, u64) {
        (self.held.len(), self.bytes)
    }

    fn mac(&self, app: &str, reference: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(app.as_bytes()).update(&[0]).update(reference);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&hasher.finalize().as_bytes()[..MAC_BYTES]);
        mac
    }

    fn sweep(&mut self, now: Instant) {
        let mut freed = 0;
        self.held.retain(|_, put| {
            let stays = put.expires > now;
            freed += if stays { 0 } else { put.body.remaining() as u64 };
            stays
        });
        self.bytes -= freed;
    }

    /// Gives everything back: the app has ended.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, id: &Id) {
        if let Some(put) = self.held.remove(id) {
            self.bytes -= put.body.remaining() as u64;
        }
    }
}

/// The node that made a reference; empty for a node by itself. `None` if it is no reference.
pub(crate) fn node_of(reference: &[u8]) -> Option<&str> {
    let is_one = reference.len() == REFERENCE_BYTES && reference.first() == Some(&REFERENCE_VERSION);
    let len = usize::from(*reference.get(1).filter(|_| is_one)?);
    std::str::from_utf8(reference.get(NODE_AT..NODE_AT + len).filter(|_| len <= NAME_MAX_BYTES)?).ok()
}

/// Keeps `body` for up to `readers` readers.
pub(crate) fn put(app: &Rc<App>, body: Body, readers: u32, ttl: Duration) -> Result<Reference, InvokeError> {
    let now = Instant::now();
    let node = app.node.name.borrow().clone();
    let len = body.remaining() as u64;
    let mut puts = app.puts.borrow_mut();
    puts.sweep(now);
    // What is put up must leave room for the requests that come for it.
    if puts.held.len() >= PUTS_MAX || puts.bytes.saturating_add(len) > app.pool.borrow().bytes() / 2 {
        return Err(InvokeError::PoolFull);
    }
    if let Some((handle, view)) = body.in_pool()
        && app.pool.borrow().owns(handle)
    {
        let range = app.pool.borrow().range_within(handle, &view).ok_or(InvokeError::PoolFull)?;
        let frozen = app.pool.borrow_mut().freeze(handle, range);
        frozen.map_err(|_| InvokeError::BadReply { what: "its app overwrote the capability table" })?;
    }
    let mut id = [0; ID_BYTES];
    if !fill(&mut id) || puts.key == [0; blake3::KEY_LEN] {
        return Err(InvokeError::PoolFull);
    }
    let mut reference = [0; REFERENCE_BYTES];
    reference[0] = REFERENCE_VERSION;
    reference[1] = u8::try_from(node.len()).unwrap_or(0);
    reference[NODE_AT..NODE_AT + node.len()].copy_from_slice(node.as_bytes());
    reference[ID_AT..LEN_AT].copy_from_slice(&id);
    reference[LEN_AT..MAC_AT].copy_from_slice(&len.to_le_bytes());
    let mac = puts.mac(&app.name, &reference[..MAC_AT]);
    reference[MAC_AT..MAC_AT + MAC_BYTES].copy_from_slice(&mac);
    let expires = now + ttl.min(TTL_MAX);
    puts.held.insert(id, Put { body: Rc::new(body), readers_left: readers.clamp(1, READERS_MAX), expires });
    puts.bytes += len;
    puts.counts.put += 1;
    drop(puts);
    let app = Rc::downgrade(app);
    tokio::task::spawn_local(async move {
        tokio::time::sleep_until(expires.into()).await;
        if let Some(app) = app.upgrade() {
            app.puts.borrow_mut().sweep(Instant::now());
        }
    });
    Ok(reference)
}

fn id_of(app: &App, puts: &mut Puts, reference: &[u8]) -> Result<Id, Refused> {
    let genuine = || {
        let mac: [u8; MAC_BYTES] = reference.get(MAC_AT..MAC_AT + MAC_BYTES)?.try_into().ok()?;
        let own = puts.mac(&app.name, reference.get(..MAC_AT)?);
        // Compared in constant time.
        let differ = mac.iter().zip(own).fold(0, |differ, (a, b)| differ | (a ^ b));
        let id: Id = reference.get(ID_AT..LEN_AT)?.try_into().ok()?;
        // One reference has one form.
        let rest = reference.get(MAC_AT + MAC_BYTES..REFERENCE_BYTES)?;
        let is_whole = reference.len() == REFERENCE_BYTES && rest.iter().all(|byte| *byte == 0);
        (differ == 0 && is_whole).then_some(id)
    };
    let id = genuine();
    puts.counts.forged += u64::from(id.is_none());
    id.ok_or(Refused::Forged)
}

/// What is behind a reference that this node made; one reader fewer may come after.
pub(crate) fn get(app: &App, reference: &[u8]) -> Result<Rc<Body>, Refused> {
    let mut puts = app.puts.borrow_mut();
    puts.sweep(Instant::now());
    let id = id_of(app, &mut puts, reference)?;
    let Some(put) = puts.held.get_mut(&id) else {
        puts.counts.over += 1;
        return Err(Refused::Over);
    };
    put.readers_left -= 1;
    let (body, is_last) = (Rc::clone(&put.body), put.readers_left == 0);
    if let Some((handle, _)) = body.in_pool()
        && !app.pool.borrow().still_has(handle)
    {
        // Its owner took it back.
        puts.remove(&id);
        puts.counts.over += 1;
        return Err(Refused::Over);
    }
    if is_last {
        puts.remove(&id);
    }
    puts.counts.got += 1;
    Ok(body)
}

/// Whatever is behind a reference that this node made is not to be had any more. `false` if nothing was.
pub(crate) fn forget(app: &App, reference: &[u8]) -> Result<bool, Refused> {
    let mut puts = app.puts.borrow_mut();
    let id = id_of(app, &mut puts, reference)?;
    let found = puts.held.contains_key(&id);
    puts.remove(&id);
    Ok(found)
}

/// A capability of its own for the reader at the other end of an edge: its number, and the reader as a holder.
pub(crate) fn share(app: &App, body: &Body, edge: (u16, u16)) -> Option<(Handle, Range)> {
    let (handle, view) = body.in_pool()?;
    let range = app.pool.borrow().range_within(handle, &view)?;
    let mut puts = app.puts.borrow_mut();
    let arena = match puts.arena.take() {
        Some(arena) => arena,
        None => app.pool.borrow_mut().own_arena(app.own_arena()?),
    };
    let arena = puts.arena.insert(arena);
    let shared = app.pool.borrow_mut().share_over(arena, handle, range, edge);
    match shared {
        Ok(child) => Some((child, range)),
        Err(ShareError::Crowded | ShareError::Capability(_)) => None,
    }
}

/// Random bytes of the kernel's. `false` if it has none.
fn fill(bytes: &mut [u8]) -> bool {
    getrandom::fill(bytes).is_ok()
}
