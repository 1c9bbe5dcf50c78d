//! Detours around forbidden encodings that lie in code by chance: in a displacement, an immediate, across two instructions.
//!
//! An instruction whose bytes hold a part of the encoding gives way to a jump, of the same length, to where the pages of the
//! code have nothing: behind the last byte of a segment, in front of the first. There lies what it did, at an address at
//! which its displacements are others, and a jump back.
//!
//! ```text
//!  lea 0xef010f(%rip),%rax          jmp  ────▶  lea 0xeefe21(%rip),%rax         the same address
//!                                   int3 int3   jmp  ────▶ the next one
//!  jmp, jcc or call x               to the same jump or call of  ────▶  jmp x
//!  call *m(%rip)                    nop; call   ────▶  jmp *m(%rip)             the return address stays
//!  mov $0xef010f,%eax               jmp  ────▶  mov $~0xef010f,%eax; not %eax; jmp ────▶ no flag changes
//!  two with the encoding across     jmp  ────▶  one of them as it is; jmp ────▶
//! ```
//!
//! What keeps the program's meaning:
//! - The function has a size, decodes from its start to its end, and no branch of the program leads into the middle of the
//!   instruction.
//! - Return addresses stay what they are, so that stacks can be unwound: no instruction that pushes one is moved. None that
//!   reads the place where it stands is moved either, but for an operand relative to it that is then encoded anew.
//! - What was encoded anew is decoded again and has to be the same instruction with the same operands.
//!
//! What a detour writes is scanned with the bytes around it; a trampoline that would hold a forbidden encoding by chance,
//! in its own distances, begins a byte later. That a cell is safe depends on none of this: it scans the patched code.

use std::collections::BTreeSet;
use std::ops::Range;

use baton_cell::elf::Image;
use baton_cell::scan::{self, Finding};
use baton_flow::Patch;
use iced_x86::{Code as Op, FlowControl, Instruction, OpKind, Register};

use super::Code;
use super::decode::{decode, one, whole};
use super::symbols::{Kind, Symbols};

/// Places that are tried for a trampoline.
const PLACES_MAX: usize = 64;
/// Bytes of the longest encoding that the scan looks for, but one.
const REACH: u64 = 3;
const JUMP_BYTES: usize = 5;
const JUMP: u8 = 0xe9;
const CALL: u8 = 0xe8;
const NOP: u8 = 0x90;
const INT3: u8 = 0xcc;

/// Detours in one range of executable pages.
pub(super) struct Detours {
    /// Addresses of the range that belong to no segment: zeros, which nothing refers to.
    spare: Vec<Range<u64>>,
    /// Where the program's branches lead, once someone has asked.
    targets: Option<BTreeSet<u64>>,
}

/// How an instruction is left.
#[derive(Clone, Copy)]
enum Way {
    /// A direct branch or call goes by way of a jump.
    Retarget,
    /// An indirect call becomes a call of an indirect jump.
    CallJump,
    /// It is done elsewhere.
    Move,
    /// A register gets the complement of a constant, and then the complement of that.
    Complement,
}

/// What a detour consists of.
struct Detour {
    /// Takes the place of the instruction.
    place: Vec<u8>,
    trampoline: Vec<u8>,
}

impl Detours {
    pub(super) fn new(code: &Code, image: &Image) -> Detours {
        let end = code.at + code.bytes.len() as u64;
        let mut spare = Vec::new();
        let mut from = code.at;
        for segment in image.executable().filter(|segment| code.at <= segment.at && segment.at < end) {
            spare.push(from..segment.at);
            from = segment.end();
        }
        spare.push(from..end);
        Detours { spare, targets: None }
    }

    /// The same for the code of a module, whose segment is whole pages: nothing lies behind its last function.
    pub(super) fn of_module(code: &Code, symbols: &Symbols<'_>) -> Detours {
        let end = code.at + code.bytes.len() as u64;
        let inside = symbols.iter().filter(|symbol| code.at <= symbol.at && symbol.end <= end);
        let named = inside.filter(|symbol| symbol.has_size).map(|symbol| symbol.end).max();
        let used = code.bytes.iter().rposition(|byte| *byte != 0).map(|last| code.address(last + 1));
        let from = named.max(used).unwrap_or(end);
        let spare = std::iter::once(from.min(end)..end).collect();
        Detours { spare, targets: None }
    }

    /// Leads the program around the forbidden encoding `finding`, if its meaning stays the same. `others` are those that
    /// are looked into afterwards.
    pub(super) fn around(
        &mut self,
        code: &mut Code,
        finding: Finding,
        others: &[Finding],
        symbols: &Symbols<'_>,
    ) -> Option<[Patch; 2]> {
        let from = code.address(finding.offset);
        let to = from + encoding_bytes(code, from);
        let function = symbols.holding(from).filter(|function| function.kind == Kind::Function)?;
        let instructions = whole(code, function)?;
        let holding = instructions.iter().filter(|one| one.ip() < to && from < one.next_ip());
        let holding: Vec<Instruction> = holding.copied().collect();
        // Of two the later one is moved, if it can be.
        for instruction in holding.iter().rev() {
            if self.is_entered(code, symbols, instruction) {
                continue;
            }
            let found = ways(instruction).find_map(|way| self.place(code, instruction, way, others));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Whether a branch leads into the middle of an instruction.
    fn is_entered(&mut self, code: &Code, symbols: &Symbols<'_>, instruction: &Instruction) -> bool {
        let targets = self.targets.get_or_insert_with(|| branch_targets(code, symbols));
        targets.range(instruction.ip() + 1..instruction.next_ip()).next().is_some()
    }

    /// Finds a place for the trampoline, and writes the detour.
    fn place(
        &mut self,
        code: &mut Code,
        instruction: &Instruction,
        way: Way,
        others: &[Finding],
    ) -> Option<[Patch; 2]> {
        let original = code.slice(instruction.ip(), instruction.next_ip()).to_vec();
        for spare in &mut self.spare {
            for at in spare.clone().take(PLACES_MAX) {
                let Detour { place, trampoline } = way.take(&original, instruction, at)?;
                let end = at + trampoline.len() as u64;
                if end > spare.end {
                    break;
                }
                let written = [(instruction.ip(), &place), (at, &trampoline)];
                if write_clean(code, written, others) {
                    spare.start = end;
                    return Some([Patch::new(instruction.ip(), &place)?, Patch::new(at, &trampoline)?]);
                }
            }
        }
        None
    }
}

/// The ways in which an instruction may be left.
fn ways(instruction: &Instruction) -> impl Iterator<Item = Way> {
    [Way::Retarget, Way::CallJump, Way::Move, Way::Complement].into_iter().filter(|way| way.fits(instruction))
}

impl Way {
    fn fits(self, instruction: &Instruction) -> bool {
        let is_register = instruction.op0_kind() == OpKind::Register;
        let base = instruction.memory_base();
        match self {
            Self::Retarget => {
                let is_branch =
                    instruction.is_jmp_near() || instruction.is_jcc_near() || instruction.is_call_near();
                is_branch && instruction.op0_kind() == OpKind::NearBranch64
            }
            Self::CallJump => instruction.code() == Op::Call_rm64 && base == Register::RIP,
            Self::Move => {
                let goes_on = instruction.flow_control() == FlowControl::Next;
                let jumps = instruction.code() == Op::Jmp_rm64 && base == Register::RIP;
                instruction.len() >= JUMP_BYTES && (goes_on || jumps) && base != Register::EIP
            }
            Self::Complement => match instruction.code() {
                Op::Mov_r32_imm32 | Op::Mov_r64_imm64 => true,
                Op::Mov_rm32_imm32 | Op::Mov_rm64_imm32 => is_register,
                _ => false,
            },
        }
    }

    /// The detour around `instruction`, whose bytes are `original`, by way of a trampoline at `at`.
    fn take(self, original: &[u8], instruction: &Instruction, at: u64) -> Option<Detour> {
        match self {
            Self::Retarget => retarget(original, instruction, at),
            Self::CallJump => call_jump(original, instruction, at),
            Self::Move => move_away(original, instruction, at),
            Self::Complement => complement(original, instruction, at),
        }
    }
}

fn retarget(original: &[u8], instruction: &Instruction, at: u64) -> Option<Detour> {
    const OPERAND_SIZE: u8 = 0x66;
    let (opcode, _) = original.split_last_chunk::<4>()?;
    // Processors do not agree on what the prefix means here.
    if opcode.contains(&OPERAND_SIZE) {
        return None;
    }
    let place = [opcode, &distance(instruction.next_ip(), at)?].concat();
    let again = one(&place, instruction.ip())?;
    let is_same = again.code() == instruction.code() && again.near_branch_target() == at;
    let trampoline = jump(at, instruction.near_branch_target())?;
    is_same.then_some(Detour { place, trampoline })
}

fn call_jump(original: &[u8], instruction: &Instruction, at: u64) -> Option<Detour> {
    const INDIRECT: u8 = 0xff;
    let (prefixes, [INDIRECT, operand, ..]) = original.split_last_chunk::<6>()? else { return None };
    // Call is the second of a group of instructions, jump the fourth.
    let jumping = [prefixes, &[INDIRECT, operand ^ (2 ^ 4) << 3], original.last_chunk::<4>()?].concat();
    let trampoline = readdressed(&jumping, instruction.ip(), at)?;
    let again = one(&trampoline, at)?;
    let is_same = again.code() == Op::Jmp_rm64
        && again.memory_base() == Register::RIP
        && again.ip_rel_memory_address() == instruction.ip_rel_memory_address()
        && again.segment_prefix() == instruction.segment_prefix();
    let mut place = vec![NOP; original.len().checked_sub(JUMP_BYTES)?];
    place.push(CALL);
    place.extend(distance(instruction.next_ip(), at)?);
    is_same.then_some(Detour { place, trampoline })
}

fn move_away(original: &[u8], instruction: &Instruction, at: u64) -> Option<Detour> {
    let moved = readdressed(original, instruction.ip(), at)?;
    if one(&moved, at)? != *instruction {
        return None;
    }
    if instruction.flow_control() == FlowControl::Next {
        return there_and_back(instruction, at, moved);
    }
    Some(Detour { place: leave(instruction, at)?, trampoline: moved })
}

fn complement(original: &[u8], instruction: &Instruction, at: u64) -> Option<Detour> {
    let register = instruction.op0_register();
    let len = if instruction.code() == Op::Mov_r64_imm64 { 8 } else { 4 };
    let (opcode, constant) = original.split_at_checked(original.len().checked_sub(len)?)?;
    let constant: Vec<u8> = constant.iter().map(|byte| !byte).collect();
    let mut trampoline = [opcode, &constant].concat();
    let again = one(&trampoline, at)?;
    let is_set = again.code() == instruction.code()
        && again.op0_register() == register
        && again.immediate(1) == complemented(instruction.immediate(1), instruction.code());
    let number = u8::try_from(register.number()).ok()?;
    let prefix = 0x40 | u8::from(register.is_gpr64()) << 3 | number >> 3;
    let inverted_at = at + trampoline.len() as u64;
    trampoline.extend([prefix, 0xf7, 0xd0 | number & 7]);
    let invert = one(trampoline.last_chunk::<3>()?, inverted_at)?;
    let is_inverted =
        matches!(invert.code(), Op::Not_rm32 | Op::Not_rm64) && invert.op0_register() == register;
    (is_set && is_inverted).then(|| there_and_back(instruction, at, trampoline))?
}

/// What the constant of a move becomes when all its bits are inverted.
const fn complemented(constant: u64, code: Op) -> u64 {
    match code {
        Op::Mov_r32_imm32 | Op::Mov_rm32_imm32 => !constant & 0xffff_ffff,
        _ => !constant,
    }
}

/// A detour that does `work` and goes on behind the instruction.
fn there_and_back(instruction: &Instruction, at: u64, work: Vec<u8>) -> Option<Detour> {
    let mut trampoline = work;
    trampoline.extend(jump(at + trampoline.len() as u64, instruction.next_ip())?);
    Some(Detour { place: leave(instruction, at)?, trampoline })
}

/// A jump to `to` over all bytes of an instruction.
fn leave(instruction: &Instruction, to: u64) -> Option<Vec<u8>> {
    let mut place = jump(instruction.ip(), to)?;
    place.resize(instruction.len(), INT3);
    Some(place)
}

/// The jump at `at` that leads to `to`.
fn jump(at: u64, to: u64) -> Option<Vec<u8>> {
    let mut jump = vec![JUMP];
    jump.extend(distance(at + JUMP_BYTES as u64, to)?);
    Some(jump)
}

/// From the end of an instruction to an address.
fn distance(from: u64, to: u64) -> Option<[u8; 4]> {
    i32::try_from(to.wrapping_sub(from).cast_signed()).ok().map(i32::to_le_bytes)
}

/// The instruction that stands at `from`, encoded so that it means the same at `to`.
fn readdressed(bytes: &[u8], from: u64, to: u64) -> Option<Vec<u8>> {
    let instruction = one(bytes, from)?;
    let mut moved = bytes.to_vec();
    if instruction.is_ip_rel_memory_operand() {
        let displacement = super::decode::displacement(bytes)?;
        let next = to + bytes.len() as u64;
        let distance = distance(next, instruction.ip_rel_memory_address())?;
        moved.get_mut(displacement)?.copy_from_slice(&distance);
    }
    Some(moved)
}

/// Writes a detour, if afterwards no forbidden encoding lies in it or reaches into it, but for `others`. If not, it writes
/// nothing.
fn write_clean(code: &mut Code, written: [(u64, &Vec<u8>); 2], others: &[Finding]) -> bool {
    let before = written.map(|(at, bytes)| (at, code.write(at, bytes)));
    let is_clean = written.iter().all(|(at, bytes)| {
        let from = at.saturating_sub(REACH).max(code.at);
        let around = code.slice(from, at + bytes.len() as u64 + REACH);
        let skipped = usize::try_from(from - code.at).unwrap_or(usize::MAX);
        scan::scan(around).all(|found| {
            let offset = skipped.saturating_add(found.offset);
            others.iter().any(|other| (other.offset, other.what) == (offset, found.what))
        })
    });
    if !is_clean {
        for (at, bytes) in before {
            code.write(at, &bytes);
        }
    }
    is_clean
}

/// How many bytes the forbidden encoding at `at` is told by.
fn encoding_bytes(code: &Code, at: u64) -> u64 {
    if code.slice(at, at + 1) == [0x0f] { REACH } else { REACH + 1 }
}

/// Where direct branches and calls lead, in all functions as far as they can be decoded.
fn branch_targets(code: &Code, symbols: &Symbols<'_>) -> BTreeSet<u64> {
    let functions = symbols.iter().filter(|symbol| symbol.kind != Kind::Object);
    functions
        .flat_map(|function| decode(code.slice(function.at, function.end), function.at))
        .filter(|instruction| instruction.op0_kind() == OpKind::NearBranch64)
        .map(|instruction| instruction.near_branch_target())
        .collect()
}
