//! How a gate is passed in a Wasm module: all of them are one imported function.

// UNSAFETY: calls an imported function.
#![expect(unsafe_code, reason = "gates are imported")]

use baton_abi::gate::CLOCK;
use baton_abi::wasm::OPEN;

use super::asks::address;

// As `baton_abi::wasm` has it.
#[link(wasm_import_module = "baton")]
unsafe extern "C" {
    /// Gate `number`: negative results are errnos.
    fn gate(number: i32, a: i64, b: i64, c: i64) -> i64;
}

/// Has the first `end` bytes of the module's memory accessible; whether they are.
pub(super) fn open(end: usize) -> bool {
    // SAFETY: the host maps zeros where nothing was.
    unsafe { gate(OPEN, end as i64, 0, 0) == 0 }
}

/// A `timespec` of the runtime's.
#[repr(C)]
struct Time {
    seconds: u64,
    nanoseconds: u64,
}

/// The gates of the module's host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page;

impl Page {
    /// What serves requests is a copy of the module as it was once it had started: see [`super::module`].
    pub(crate) fn incarnation(self) -> u64 {
        super::module::COPY
    }

    /// Passes through gate `N`.
    #[inline]
    pub(super) fn pass<const N: usize>(self, a: u64, b: u64, c: u64) -> i64 {
        const { assert!(N < baton_abi::gate::GATES) };
        #[expect(clippy::cast_possible_truncation, reason = "there are few gates")]
        let number = const { N as i32 };
        let [a, b, c] = [a, b, c].map(u64::cast_signed);
        // SAFETY: the host checks what it is given: it touches nothing but what the arguments of this gate name.
        unsafe { gate(number, a, b, c) }
    }

    /// What a clock of Linux says, nanoseconds.
    pub(crate) fn clock_ns(self, clock: u64) -> u64 {
        let mut now = Time { seconds: 0, nanoseconds: 0 };
        // A clock that does not exist leaves the zeros in it.
        let _ = self.pass::<CLOCK>(clock, address(&raw mut now), 0);
        now.seconds.saturating_mul(1_000_000_000).saturating_add(now.nanoseconds)
    }
}
