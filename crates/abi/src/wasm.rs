//! Core Wasm modules as functions: what they import and export.
//!
//! ```text
//! (import "baton" "gate" (func (param i32 i64 i64 i64) (result i64)))   number, a, b, c: as crate::gate says
//! (export "memory" (memory …))
//! (export "_start" (func))                          optional: runs once, up to where the function is ready
//! (export "baton_parcel" (func (result i32)))       where the next event is to be written: room for a Parcel
//! (export "baton_event" (func (result i32)))        an event lies there; gives an answer for the next receive, or 0
//! (export "baton_refused" (func (param i64)))       that answer was not taken: the errno
//! ```
//! Addresses are offsets in the module's memory. There is no receive gate: events come by `baton_event`, which returns when
//! there is nothing more to do for now. What it returns is where the parcel of an answer lies that is to go out with the next
//! receive, which saves a gate; a module that sends its answers by the reply gate has a `baton_event` without a result, and no
//! `baton_refused`. Every other gate is there, with the numbers, the structures and the results of
//! [`crate::gate`]; a payload's base is an offset too, at [`WINDOW_AT`] or above it.
//!
//! [`crate::gate::Parcel::kept_at`] of the parcel at `baton_parcel` is read before the first event is written there: an offset too.
//! A custom section named [`VERSION_SECTION`] says for which version of all this the module was built.
//!
//! After `_start` the memory is what each copy of the function begins with.

use crate::cell::MAIL_BYTES;

/// The module that is imported from.
pub const MODULE: &str = "baton";
/// The one function in it.
pub const GATE: &str = "gate";
/// A number for [`GATE`] that is no gate of the cell: the first `a` bytes of the memory are to be accessible. 0, or a negative
/// errno. The memory says from the start that it is as large as it can be, so that `memory.copy` and `memory.fill` reach the
/// window; what lies below it and was not asked for faults.
pub const OPEN: i32 = 64;
/// Another: the memory is to have `a` pages of 64 KiB more, and `b` at most. How many it had, or -1. The compiler of modules puts it in the places of
/// `memory.grow` and `memory.size`; what asked for memory by [`OPEN`] before keeps it, and gets no more by it after.
pub const GROW: i32 = 65;
/// Exports, by name.
pub const MEMORY: &str = "memory";
/// See the module's text.
pub const START: &str = "_start";
/// See the module's text.
pub const PARCEL: &str = "baton_parcel";
/// See the module's text.
pub const EVENT: &str = "baton_event";
/// See the module's text.
pub const REFUSED: &str = "baton_refused";

/// Name of a custom section: four bytes, little-endian, the [`crate::ABI_VERSION`] that the module was built for.
pub const VERSION_SECTION: &str = "baton.abi";
/// What a module without that section counts as: none had it up to version 3, and version 4 left the gates as they were.
pub const VERSION_UNSAID: u32 = 4;

/// Where the app's pool appears in a module's memory; what the module allocates itself lies below.
pub const WINDOW_AT: u64 = 2 << 30;
/// The most bytes of a pool that fit there: what remains is for copies of small payloads.
pub const WINDOW_BYTES_MAX: u64 = (4 << 30) - WINDOW_AT - (64 << 10) - MAIL_BYTES;

const _: () =
    assert!(WINDOW_AT + WINDOW_BYTES_MAX + MAIL_BYTES < 1 << 32 && WINDOW_BYTES_MAX.is_multiple_of(4096));
