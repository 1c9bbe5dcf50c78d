//! Addresses in the assembly.

use super::{
    baton_asm_begin, baton_asm_end, baton_copy_end, baton_copy_failed, baton_copy_lines, baton_gates,
    baton_resume_begin, baton_resume_end, baton_trap, baton_trap_open, baton_violation,
};

fn of(label: *const u8) -> u64 {
    label as u64
}

/// The entry of gate `number`.
pub(crate) fn gate(number: usize) -> u64 {
    of(&raw const baton_gates) + 16 * number as u64
}

/// The handler of all signals.
pub(crate) fn trap() -> u64 {
    baton_trap as *const () as u64
}

/// Whether a signal's handler has not taken its rights yet.
pub(crate) fn in_trap_entry(rip: u64) -> bool {
    (trap()..of(&raw const baton_trap_open)).contains(&rip)
}

/// Where failed checks end.
pub(crate) fn violation() -> u64 {
    baton_violation as *const () as u64
}

/// Whether a full return was interrupted half-way.
pub(crate) fn in_resume(rip: u64) -> bool {
    (of(&raw const baton_resume_begin)..of(&raw const baton_resume_end)).contains(&rip)
}

/// Whether a copy was interrupted.
pub(crate) fn in_copy(rip: u64) -> bool {
    (baton_copy_lines as *const () as u64..of(&raw const baton_copy_end)).contains(&rip)
}

/// Where a failed copy goes on.
pub(crate) fn copy_failed() -> u64 {
    of(&raw const baton_copy_failed)
}

/// The range of the assembly: the only place in the runtime's text where key-changing instructions may be.
pub(crate) fn range() -> core::ops::Range<u64> {
    of(&raw const baton_asm_begin)..of(&raw const baton_asm_end)
}
