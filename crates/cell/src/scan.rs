//! The scan of executable bytes for instructions that no guest may have.
//!
//! A guest that could set its own key register would own the cell, so no byte offset of its executable pages may begin
//! an instruction that does. The scan knows nothing of instruction boundaries: x86 code can be entered anywhere.
//!
//! | refused at every offset | encoding | why |
//! |---|---|---|
//! | `wrpkru` | `0F 01 EF` | opens every key |
//! | `xrstor`, `xrstor64` | `0F AE /5`, memory | loads the key register from memory |
//! | `xrstors`, `xrstors64` | `0F C7 /3`, memory | the same; privileged today, refused all the same |
//! | `wrfsbase`, `wrgsbase` | `0F AE /2` and `/3`, register | the runtime finds its own state by these bases |
//!
//! - Prefixes do not matter: the patterns begin at the opcode, whatever stands before it. `wrfsbase` is not `wrfsbase`
//!   without an `F3` somewhere before, but nothing else has its opcode, so the prefix is not looked for.
//! - With the `REX2` prefix (`D5`, its top bit set) the byte `0F` falls away. No processor here has it; those forms are
//!   refused as well, so that a binary that was accepted once stays harmless on the next machine.
//! - A pattern that the range cuts off is not one: an instruction cannot be fetched across the end of executable pages.
//!   That is why neighbouring executable pages are scanned as one range ([`crate::elf::Image::code`]).
//!
//! # What is let through, and why
//!
//! - **`syscall`, `sysenter`, `int 0x80`**: every system call of a guest is dispatched to the runtime, without an allowed
//!   range, and the cell's seccomp filter kills 32-bit entries.
//! - **Far transfers** (`CB`, `CA`, `CF`, `FF /3`, `FF /5`): they are one and two bytes long and lie in every program by
//!   chance, some thousand a megabyte; refusing them bytewise would refuse everything. What they can do is load another
//!   code segment. The kernel offers two to user mode: the 64-bit one, with which a far return is a return; and the
//!   32-bit one, in which the scanned bytes would mean other instructions. But 32-bit code is fetched from below 4 GiB,
//!   where a cell maps nothing: images for fixed addresses are refused, seats begin far above, guests cannot map
//!   executable pages. The first fetch faults and the guest has failed. No guest can get a segment of its own
//!   (`modify_ldt` and `set_thread_area` are not in the cell's seccomp filter), and the kernel has no call gates. The
//!   deploy-time check refuses far transfers that are real instructions of a function.
//! - **Segment loads** (`mov %fs`, `pop %gs`, `lfs`, …): the kernel's descriptors give a base of 0 or one below 4 GiB, where
//!   nothing lies; the runtime sets the base anew whenever it is entered, before it uses it.
//! - **`xbegin`** (`C7 F8`): also everywhere by chance, every 150 KB. A transaction does not suspend keys. It turns faults
//!   into aborts, which gives a guest a probe for what is mapped; the order of loads and time give it that too. An abort
//!   restores all registers, so that no half-done gate is left behind. Where the processor has no transactional memory, or
//!   the kernel has turned it off, which is the rule, it is an invalid instruction.
//! - **Calls of the kernel's own pages**: the vsyscall page serves three calls without a `syscall` instruction, all of which
//!   read clocks or the core's number and write with the guest's keys.
//! - **`rdpkru`, `rdfsbase`, `rdgsbase`, `fxrstor`, `fxsave`, `xsave…`, `ldmxcsr`**: they read, or load what holds no keys.
//! - **`xsaves`, `swapgs`, `lldt`, `clac`, `stac`, `xsetbv`, `wrmsr`, `in`, `out`, …**: privileged, they fault.
//! - **`senduipi`, `stui`, `enqcmd`, `wrss`, `vmfunc`**: invalid unless the kernel or a hypervisor turns them on for the
//!   process; neither Linux nor the cell does.

use core::fmt;

mod filter;

const UD2: [u8; 2] = [0x0f, 0x0b];
const INT3: u8 = 0xcc;

/// An instruction that no guest may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forbidden {
    /// `wrpkru`
    WritePkru,
    /// `xrstor` and `xrstor64`
    RestoreState,
    /// `xrstors` and `xrstors64`
    RestoreSupervisorState,
    /// `wrfsbase`
    WriteFsBase,
    /// `wrgsbase`
    WriteGsBase,
}

impl Forbidden {
    /// Its mnemonic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Forbidden::WritePkru => "wrpkru",
            Forbidden::RestoreState => "xrstor",
            Forbidden::RestoreSupervisorState => "xrstors",
            Forbidden::WriteFsBase => "wrfsbase",
            Forbidden::WriteGsBase => "wrgsbase",
        }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A forbidden encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where its first byte lies, prefixes left out.
    pub offset: usize,
    /// What it is.
    pub what: Forbidden,
}

/// Looks for forbidden encodings at every offset of `code`, which is all of a range of executable pages.
#[must_use]
pub const fn scan(code: &[u8]) -> Findings<'_> {
    Findings { code, at: 0, suspect_until: 0 }
}

/// The findings in a range, by ascending offset.
#[derive(Clone, Debug)]
pub struct Findings<'c> {
    code: &'c [u8],
    /// The next offset to look at.
    at: usize,
    /// Offsets below this one have to be looked at one by one.
    suspect_until: usize,
}

impl Iterator for Findings<'_> {
    type Item = Finding;

    fn next(&mut self) -> Option<Finding> {
        loop {
            while self.at < self.suspect_until {
                let offset = self.at;
                self.at += 1;
                if let Some(what) = begins(self.code.get(offset..).unwrap_or_default()) {
                    return Some(Finding { offset, what });
                }
            }
            let rest = self.code.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return None;
            }
            self.at += filter::clean(rest);
            self.suspect_until = self.code.len().min(self.at + filter::STRIDE);
        }
    }
}

/// The forbidden encoding that `code` begins with.
#[must_use]
pub fn begins(code: &[u8]) -> Option<Forbidden> {
    match *code {
        [0x0f, opcode, operand, ..] => judge(opcode, operand),
        [0xd5, payload, opcode, operand, ..] if payload & 0x80 != 0 => judge(opcode, operand),
        _ => None,
    }
}

/// `opcode` is of the two-byte map, `operand` its `ModRM` byte.
const fn judge(opcode: u8, operand: u8) -> Option<Forbidden> {
    let (register, is_memory) = (operand >> 3 & 7, operand >> 6 != 3);
    match (opcode, register, is_memory) {
        (0x01, _, _) if operand == 0xef => Some(Forbidden::WritePkru),
        (0xae, 5, true) => Some(Forbidden::RestoreState),
        (0xc7, 3, true) => Some(Forbidden::RestoreSupervisorState),
        (0xae, 2, false) => Some(Forbidden::WriteFsBase),
        (0xae, 3, false) => Some(Forbidden::WriteGsBase),
        _ => None,
    }
}

/// Why an instruction was not disarmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisarmError {
    /// No forbidden encoding begins there.
    NotForbidden {
        /// The offset.
        offset: usize,
    },
    /// The instruction goes on behind the end of the range.
    CutOff {
        /// The offset.
        offset: usize,
        /// Bytes of the instruction.
        len: usize,
    },
}

impl fmt::Display for DisarmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotForbidden { offset } => {
                write!(f, "there is nothing to disarm at {offset:#x}; deploy the function again")
            }
            Self::CutOff { offset, len } => {
                write!(
                    f,
                    "the instruction of {len} bytes at {offset:#x} is cut off; build the function again"
                )
            }
        }
    }
}

impl core::error::Error for DisarmError {}

/// Overwrites the forbidden instruction at `offset` with one that faults. Only for what the deploy-time check has found to
/// be an instruction that is never run: elsewhere it would break the program. It cannot break the wall: nothing but a
/// forbidden encoding is overwritten, and the range is scanned afterwards.
///
/// # Errors
/// No forbidden encoding begins at `offset`, or its end is not in `code`.
pub fn disarm(code: &mut [u8], offset: usize) -> Result<(), DisarmError> {
    let rest = code.get_mut(offset..).unwrap_or_default();
    if begins(rest).is_none() {
        return Err(DisarmError::NotForbidden { offset });
    }
    let len = length(rest);
    let instruction = rest.get_mut(..len).ok_or(DisarmError::CutOff { offset, len })?;
    for (index, byte) in instruction.iter_mut().enumerate() {
        *byte = UD2.get(index).copied().unwrap_or(INT3);
    }
    Ok(())
}

/// Bytes of the forbidden instruction that `code` begins with.
fn length(code: &[u8]) -> usize {
    let before = if code.first() == Some(&0x0f) { 2 } else { 3 };
    let operand = code.get(before).copied().unwrap_or_default();
    let (mode, base) = (operand >> 6, operand & 7);
    let has_index = mode != 3 && base == 4;
    let index_base = code.get(before + 1).map_or(0, |byte| byte & 7);
    let displacement = match mode {
        0 if base == 5 || (has_index && index_base == 5) => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    before + 1 + usize::from(has_index) + displacement
}

#[cfg(test)]
mod tests;
