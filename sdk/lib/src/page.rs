//! The link as a page of gates: a program that was written for compartments runs as a process of its own, too.

// UNSAFETY: gates get addresses from C.
#![expect(unsafe_code, reason = "exported to C; what addresses point to is copied at once")]

use std::cell::Cell;
use std::io::Write as _;
use std::sync::OnceLock;

use baton_abi::gate::{
    ALLOC, CALL, CANCEL, CLOCK, FREE, FREEZE, GATE_MAGIC, GATES_MAX, GatePage, Grant, LOG, NARROW, Pair,
    Parcel, RANDOM, RECV, REPLY, REVOKE, WAIT,
};
use baton_abi::{ABI_VERSION, Descriptor, Flags, Kind};

use crate::calls::{
    baton_link_alloc, baton_link_call, baton_link_cancel, baton_link_free, baton_link_freeze,
    baton_link_narrow, baton_link_reply, baton_link_revoke, baton_link_wait, bytes, put,
};
use crate::open::{EPERM, here, open};

type Gate = unsafe extern "C" fn(u64, u64, u64) -> i64;

const EINVAL: i64 = -22;
/// Longest line of a log, bytes: what is longer is cut.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Linux' number of the clock of wall time.
const WALL: u64 = 0;

static PAGE: OnceLock<GatePage> = OnceLock::new();

thread_local! {
    /// The invocation of the request that was taken last.
    static INVOCATION: Cell<u64> = const { Cell::new(0) };
}

/// The page of gates over the link, which is opened if it was not yet; null where this process has no link.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_page() -> *const GatePage {
    if open() != 0 {
        return core::ptr::null();
    }
    let page = PAGE.get_or_init(|| {
        let mut gates = [0; GATES_MAX];
        let all: [(usize, Gate); 13] = [
            (RECV, recv),
            (REPLY, reply),
            (CALL, call),
            (ALLOC, alloc),
            (FREE, free),
            (FREEZE, freeze),
            (REVOKE, revoke),
            (NARROW, narrow),
            (CANCEL, cancel),
            (WAIT, wait),
            (LOG, log),
            (CLOCK, clock),
            (RANDOM, random),
        ];
        for (number, gate) in all {
            if let Some(place) = gates.get_mut(number) {
                *place = (gate as *const ()).expose_provenance() as u64;
            }
        }
        GatePage { magic: GATE_MAGIC, abi_version: ABI_VERSION, gates, incarnation: 0 }
    });
    core::ptr::from_ref(page)
}

fn at<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// The bytes that a parcel names by their address.
///
/// # Safety
/// That address is valid for reading, as the parcel says.
unsafe fn own_bytes(parcel: &Parcel) -> (*const u8, usize) {
    let Descriptor { flags, body, .. } = Descriptor::from_words(parcel.words);
    if !flags.has(Flags::BYTES) {
        return (core::ptr::null(), 0);
    }
    (at::<u8>(body.offset).cast_const(), usize::try_from(body.len).unwrap_or(0))
}

unsafe extern "C" fn recv(first: u64, fill: u64, _: u64) -> i64 {
    let Some(outside) = here() else { return EPERM };
    if first != 0 {
        // SAFETY: the address of a parcel, as that gate's.
        let replied = unsafe { reply(first, 0, 0) };
        if replied < 0 {
            return replied;
        }
    }
    loop {
        outside.turn();
        if let Some(parcel) = outside.next() {
            let words = Descriptor::from_words(parcel.words);
            if words.kind == Kind::Request as u8 {
                INVOCATION.set(words.invocation);
            }
            // SAFETY: the address of a parcel to fill, by the gate's contract.
            return unsafe { put(at(fill), parcel) };
        }
        outside.sleep(None, true);
    }
}

unsafe extern "C" fn reply(parcel: u64, _: u64, _: u64) -> i64 {
    let parcel = at::<Parcel>(parcel).cast_const();
    // SAFETY: null or a parcel, by the gate's contract.
    let Some(message) = (unsafe { parcel.as_ref() }) else { return EINVAL };
    // SAFETY: by the gate's contract.
    let (payload, len) = unsafe { own_bytes(message) };
    // SAFETY: all of them as that function wants them.
    unsafe { baton_link_reply(parcel, core::ptr::null(), 0, payload, len) }
}

unsafe extern "C" fn call(callee: u64, parcel: u64, _: u64) -> i64 {
    let parcel = at::<Parcel>(parcel);
    // SAFETY: null or a parcel, by the gate's contract.
    let Some(message) = (unsafe { parcel.as_ref() }) else { return EINVAL };
    // SAFETY: by the gate's contract.
    let (payload, len) = unsafe { own_bytes(message) };
    // SAFETY: all of them as that function wants them; `message` is not used any more.
    unsafe { baton_link_call(callee, parcel, core::ptr::null(), 0, payload, len) }
}

unsafe extern "C" fn alloc(len: u64, count: u64, grants: u64) -> i64 {
    let mut done = 0;
    while done < count {
        let to = at::<Grant>(grants).wrapping_add(usize::try_from(done).unwrap_or(0));
        // SAFETY: one of the grants to be filled, by the gate's contract.
        let got = unsafe { baton_link_alloc(len, to) };
        if got < 0 {
            return if done == 0 { got } else { i64::try_from(done).unwrap_or(0) };
        }
        done += 1;
    }
    i64::try_from(done).unwrap_or(0)
}

/// The pair at an address.
///
/// # Safety
/// Null, or the address of a pair.
unsafe fn pair(address: u64) -> Option<Pair> {
    // SAFETY: as for this function.
    unsafe { at::<Pair>(address).cast_const().as_ref() }.copied()
}

unsafe extern "C" fn free(pairs: u64, count: u64, _: u64) -> i64 {
    let mut last = 0;
    for index in 0..count {
        // SAFETY: one of the pairs, by the gate's contract.
        let Some(pair) = (unsafe { pair(pairs.wrapping_add(index * size_of::<Pair>() as u64)) }) else {
            return EINVAL;
        };
        let freed = baton_link_free(pair.handle, pair.generation);
        last = if freed < 0 { freed } else { last };
    }
    last
}

unsafe extern "C" fn freeze(address: u64, _: u64, _: u64) -> i64 {
    // SAFETY: by the gate's contract.
    let pair = unsafe { pair(address) };
    pair.map_or(EINVAL, |pair| baton_link_freeze(pair.handle, pair.generation))
}

unsafe extern "C" fn revoke(address: u64, _: u64, _: u64) -> i64 {
    // SAFETY: by the gate's contract.
    let pair = unsafe { pair(address) };
    pair.map_or(EINVAL, |pair| baton_link_revoke(pair.handle, pair.generation))
}

unsafe extern "C" fn narrow(address: u64, offset: u64, len: u64) -> i64 {
    // SAFETY: by the gate's contract.
    let pair = unsafe { pair(address) };
    pair.map_or(EINVAL, |pair| baton_link_narrow(pair.handle, pair.generation, offset, len))
}

unsafe extern "C" fn cancel(tag: u64, _: u64, _: u64) -> i64 {
    u32::try_from(tag).map_or(EINVAL, |tag| baton_link_cancel(tag))
}

unsafe extern "C" fn wait(tag: u64, fill: u64, _: u64) -> i64 {
    let Ok(tag) = u32::try_from(tag) else { return EINVAL };
    // SAFETY: the address of a parcel to fill, by the gate's contract.
    unsafe { baton_link_wait(tag, at(fill)) }
}

unsafe extern "C" fn log(level: u64, address: u64, len: u64) -> i64 {
    let len = usize::try_from(len).unwrap_or(0).min(LINE_BYTES_MAX);
    // SAFETY: the address of so many bytes, by the gate's contract.
    let Some(text) = (unsafe { bytes(at::<u8>(address).cast_const(), len) }) else { return EINVAL };
    let level = u8::try_from(level).ok().filter(|level| b"EWID".contains(level)).unwrap_or(b'I');
    let text = String::from_utf8_lossy(text);
    // One write a line: lines of several replicas do not mix. A log that cannot be written is lost.
    let line = format!("\u{1}{}{:016x} {text}\n", char::from(level), INVOCATION.get());
    let _ = std::io::stderr().write_all(line.as_bytes());
    0
}

unsafe extern "C" fn clock(number: u64, address: u64, _: u64) -> i64 {
    let id = if number == WALL { rustix::time::ClockId::Realtime } else { rustix::time::ClockId::Monotonic };
    let now = rustix::time::clock_gettime(id);
    let words = at::<[i64; 2]>(address);
    if words.is_null() || !words.is_aligned() {
        return EINVAL;
    }
    // SAFETY: the address of a `timespec`, by the gate's contract: two words.
    unsafe { words.write([now.tv_sec, now.tv_nsec]) };
    0
}

unsafe extern "C" fn random(address: u64, len: u64, _: u64) -> i64 {
    let mut drawn = [0u8; 256];
    let len = usize::try_from(len).unwrap_or(0).min(drawn.len());
    let Some(part) = drawn.get_mut(..len) else { return EINVAL };
    baton::random(part);
    let to = at::<u8>(address);
    if to.is_null() {
        return EINVAL;
    }
    // SAFETY: so many bytes to be filled, by the gate's contract; `part` is this function's own.
    unsafe { core::ptr::copy_nonoverlapping(part.as_ptr(), to, len) };
    i64::try_from(len).unwrap_or(0)
}

const _: () = assert!(size_of::<Option<Gate>>() == size_of::<u64>());
