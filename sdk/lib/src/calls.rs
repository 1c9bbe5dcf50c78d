//! The functions of `baton/link.h`.

// UNSAFETY: functions for C, which pass addresses.
#![expect(unsafe_code, reason = "exported to C; what addresses point to is copied at once")]

use baton::outside::{Outgoing, Outside, Refusal};
use baton_abi::gate::{Grant, PENDING, Pair, Parcel};
use baton_abi::{ABI_VERSION, Descriptor, Kind};

use crate::open::{EPERM, alarm, here, open, why};
use crate::watch;

/// Of the functions and layouts, by semantic versioning: major, minor, patch, a byte each from bit 16 down. A program may be used
/// with a library of the same major number and the same minor number or a greater one.
const VERSION: u32 = 1 << 16;

const EINVAL: i64 = -22;

pub(crate) fn refused(refusal: Refusal) -> i64 {
    -i64::from(refusal.errno())
}

fn result(done: Result<(), Refusal>) -> i64 {
    done.map_or_else(refused, |()| 0)
}

/// `len` bytes at `at`; none if it is null.
///
/// # Safety
/// `at` is null, or valid for reading `len` bytes during `'a`.
pub(crate) unsafe fn bytes<'a>(at: *const u8, len: usize) -> Option<&'a [u8]> {
    if at.is_null() {
        return None;
    }
    // SAFETY: valid by the contract; `at` is not null.
    Some(unsafe { core::slice::from_raw_parts(at, len) })
}

/// The version of this library's functions.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_version() -> u32 {
    VERSION
}

/// The version of the layouts of messages: `BATON_ABI_VERSION`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_abi() -> u32 {
    ABI_VERSION
}

/// Takes what the node sends first. 0, or a negative number; then [`baton_link_error`] says why.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_open() -> i64 {
    open()
}

/// Why the link could not be opened, ended by a zero; good until it is tried again.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_error() -> *const core::ffi::c_char {
    why()
}

/// Requests that may be in hand at a time.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_concurrency() -> i64 {
    here().map_or(EPERM, |outside| i64::from(outside.concurrency()))
}

/// Looks around once: 1 with an event in `out`, 0 if there is none.
///
/// # Safety
/// `out` is null or valid for writing a parcel.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn baton_link_next(out: *mut Parcel) -> i64 {
    let Some(outside) = here() else { return EPERM };
    outside.turn();
    match outside.next() {
        // SAFETY: as for this function.
        Some(parcel) => unsafe { put(out, parcel) },
        None => 0,
    }
}

/// Writes a parcel; 1.
///
/// # Safety
/// `out` is null or valid for writing a parcel.
pub(crate) unsafe fn put(out: *mut Parcel, parcel: Parcel) -> i64 {
    if out.is_null() || !out.is_aligned() {
        return EINVAL;
    }
    // SAFETY: not null, aligned, and valid for writing by the contract.
    unsafe { out.write(parcel) };
    1
}

/// Sleeps until a peer rings, or [`baton_link_wake`] does, at most so many nanoseconds; for ever if negative. May return earlier.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_sleep(timeout_ns: i64) -> i64 {
    let Some(outside) = here() else { return EPERM };
    outside.sleep(u64::try_from(timeout_ns).ok(), true);
    0
}

/// Ends a sleep, from any thread.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_wake() {
    if let Some(alarm) = alarm() {
        alarm.ring();
    }
}

/// A descriptor that becomes readable when there is something to do, between [`baton_link_arm`] and [`baton_link_disarm`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_fd() -> i64 {
    here().map_or(EPERM, |outside| watch::fd(outside.alarm()))
}

/// Says that this function sleeps: 1 if the descriptor will tell its end, 0 if there is something to do.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_arm() -> i64 {
    let Some(outside) = here() else { return EPERM };
    let sleeps = outside.announce_sleep();
    if sleeps {
        watch::arm();
    }
    i64::from(sleeps)
}

/// Awake again: whether the descriptor told so or another one.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_disarm() -> i64 {
    let Some(outside) = here() else { return EPERM };
    outside.awake();
    if let Some(bell) = outside.alarm().bell() {
        bell.wake();
    }
    watch::clear();
    0
}

/// Nanoseconds until a call's own time is over; -1 if there is none.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_deadline() -> i64 {
    let left = here().and_then(Outside::next_deadline_ns);
    left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX))
}

/// Answers a request. `head` are encoded headers, or null; `payload` is copied, or null for what the parcel names.
///
/// # Safety
/// `parcel` is null or a parcel; `head` and `payload` are null or valid for reading so many bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn baton_link_reply(
    parcel: *const Parcel,
    head: *const u8,
    head_len: usize,
    payload: *const u8,
    payload_len: usize,
) -> i64 {
    let Some(outside) = here() else { return EPERM };
    // SAFETY: null or a parcel, by the contract.
    let Some(parcel) = (unsafe { parcel.as_ref() }) else { return EINVAL };
    // SAFETY: as for this function.
    let head = unsafe { bytes(head, head_len) }.unwrap_or_default();
    // SAFETY: as for this function.
    let payload = unsafe { bytes(payload, payload_len) };
    let replied = outside.reply(Outgoing { parcel, head, bytes: payload });
    outside.flush();
    result(replied)
}

/// Calls function number `callee` of the manifest's `calls`. `BATON_PENDING`, with the call's tag in the parcel, or why nothing was
/// called.
///
/// # Safety
/// As [`baton_link_reply`]; the parcel is valid for writing.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn baton_link_call(
    callee: u64,
    parcel: *mut Parcel,
    head: *const u8,
    head_len: usize,
    payload: *const u8,
    payload_len: usize,
) -> i64 {
    let Some(outside) = here() else { return EPERM };
    // SAFETY: null or a parcel that nobody else uses, by the contract.
    let Some(parcel) = (unsafe { parcel.as_mut() }) else { return EINVAL };
    // SAFETY: as for this function.
    let head = unsafe { bytes(head, head_len) }.unwrap_or_default();
    // SAFETY: as for this function.
    let payload = unsafe { bytes(payload, payload_len) };
    let callee = usize::try_from(callee).unwrap_or(usize::MAX);
    match outside.call(callee, Outgoing { parcel, head, bytes: payload }) {
        Ok(tag) => {
            parcel.words = Descriptor { tag, ..Descriptor::new(Kind::Request) }.to_words();
            PENDING
        }
        Err(refusal) => refused(refusal),
    }
}

/// Waits for the end of one call: 0 with it in `out`.
///
/// # Safety
/// `out` is null or valid for writing a parcel.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn baton_link_wait(tag: u32, out: *mut Parcel) -> i64 {
    let Some(outside) = here() else { return EPERM };
    match outside.wait(tag) {
        // SAFETY: as for this function.
        Ok(parcel) => unsafe { put(out, parcel) }.min(0),
        Err(refusal) => refused(refusal),
    }
}

/// Nobody waits for a call any more.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_cancel(tag: u32) -> i64 {
    here().map_or(EPERM, |outside| result(outside.cancel_call(tag)))
}

/// Takes a buffer for at least `len` bytes.
///
/// # Safety
/// `out` is null or valid for writing a grant.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn baton_link_alloc(len: u64, out: *mut Grant) -> i64 {
    let Some(outside) = here() else { return EPERM };
    let Ok(len) = usize::try_from(len) else { return refused(Refusal::PoolFull) };
    if out.is_null() || !out.is_aligned() {
        return EINVAL;
    }
    match outside.alloc(len) {
        Ok(grant) => {
            // SAFETY: not null, aligned, and valid for writing by the contract.
            unsafe { out.write(grant) };
            0
        }
        Err(refusal) => refused(refusal),
    }
}

/// Gives something back.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_free(handle: u32, generation: u32) -> i64 {
    here().map_or(EPERM, |outside| result(outside.free(Pair { handle, generation })))
}

/// Makes something read-only, for good.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_freeze(handle: u32, generation: u32) -> i64 {
    here().map_or(EPERM, |outside| result(outside.freeze(Pair { handle, generation })))
}

/// Narrows something of one's own to `len` bytes from `offset` of its buffer, for good.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_narrow(handle: u32, generation: u32, offset: u64, len: u64) -> i64 {
    here().map_or(EPERM, |outside| result(outside.narrow(Pair { handle, generation }, offset, len)))
}

/// Takes something away from everyone that it was lent to or shared with; how many capabilities ended.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn baton_link_revoke(handle: u32, generation: u32) -> i64 {
    let Some(outside) = here() else { return EPERM };
    outside.revoke(Pair { handle, generation }).map_or_else(refused, i64::from)
}
