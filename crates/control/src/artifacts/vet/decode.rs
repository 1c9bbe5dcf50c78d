//! Reading machine code from the start of a function, the way it was written, to tell instructions from bytes that only
//! look like one.

use std::ops::Range;

use baton_cell::scan::Forbidden;
use iced_x86::{
    Code as Op, Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, Mnemonic, OpKind, Register,
};

use super::error::Context;
use super::symbols::{Kind, Symbol, Symbols};
use super::{Code, INSTRUCTION_BYTES_MAX};

const BITS: u32 = 64;
/// Instructions of the resolver's end.
const TAIL: usize = 12;
/// Bytes of a function that are decoded to reach a finding.
const FUNCTION_BYTES_MAX: u64 = 4 << 20;
/// Functions with far transfers that are reported.
const FAR_MAX: usize = 16;
/// Registers that the resolver saves for the function that it calls.
const SAVED: [Register; 7] =
    [Register::R9, Register::R8, Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::RAX];

/// What the forbidden bytes at address `at` turn out to be, when the function that holds them is decoded: unknown if none
/// begins before them, or it cannot be decoded as far as that.
pub(super) fn look(code: &Code, at: u64, what: Forbidden, symbols: &Symbols<'_>) -> Context {
    let Some(symbol) = symbols.holding(at) else { return Context::Unknown };
    if symbol.kind == Kind::Object {
        return Context::Data;
    }
    if at - symbol.at > FUNCTION_BYTES_MAX {
        return Context::Unknown;
    }
    // A little behind the bytes, since they may begin in a symbol's last instruction.
    let end = at.saturating_add(INSTRUCTION_BYTES_MAX as u64);
    let found = decode(code.slice(symbol.at, end), symbol.at)
        .take_while(|instruction| !instruction.is_invalid())
        .find(|instruction| at < instruction.next_ip());
    let Some(instruction) = found else { return Context::Unknown };
    let text = text(&instruction);
    let prefixes = code.slice(instruction.ip(), at);
    if is(what, &instruction) && prefixes.iter().all(|byte| is_prefix(*byte)) {
        return Context::Instruction { text };
    }
    Context::Part { text }
}

/// The instructions of a function that says where it ends, if all of its bytes are instructions.
pub(super) fn whole(code: &Code, function: &Symbol) -> Option<Vec<Instruction>> {
    if !function.has_size || function.end - function.at > FUNCTION_BYTES_MAX {
        return None;
    }
    let instructions: Vec<Instruction> = decode(code.slice(function.at, function.end), function.at).collect();
    instructions.iter().all(|instruction| !instruction.is_invalid()).then_some(instructions)
}

/// The one instruction that `bytes` are, at address `at`.
pub(super) fn one(bytes: &[u8], at: u64) -> Option<Instruction> {
    decode(bytes, at).next().filter(|one| !one.is_invalid() && one.len() == bytes.len())
}

/// Where in the bytes of an instruction its displacement of four bytes lies.
pub(super) fn displacement(bytes: &[u8]) -> Option<Range<usize>> {
    let mut decoder = Decoder::new(BITS, bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let offsets = decoder.get_constant_offsets(&instruction);
    let (from, len) = (offsets.displacement_offset(), offsets.displacement_size());
    (len == 4).then_some(from..from + len)
}

/// The instructions from address `at`.
pub(super) fn decode(bytes: &[u8], at: u64) -> impl Iterator<Item = Instruction> {
    let mut decoder = Decoder::with_ip(BITS, bytes, at, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

fn text(instruction: &Instruction) -> Box<str> {
    let mut text = String::new();
    GasFormatter::new().format(instruction, &mut text);
    text.into()
}

fn is(what: Forbidden, instruction: &Instruction) -> bool {
    let mnemonic = instruction.mnemonic();
    match what {
        Forbidden::WritePkru => mnemonic == Mnemonic::Wrpkru,
        Forbidden::RestoreState => matches!(mnemonic, Mnemonic::Xrstor | Mnemonic::Xrstor64),
        Forbidden::RestoreSupervisorState => matches!(mnemonic, Mnemonic::Xrstors | Mnemonic::Xrstors64),
        Forbidden::WriteFsBase => mnemonic == Mnemonic::Wrfsbase,
        Forbidden::WriteGsBase => mnemonic == Mnemonic::Wrgsbase,
    }
}

const fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Whether what begins at `at` is the end of glibc's lazy resolver: the processor's state and the arguments of the
/// function come back from the stack, the frame goes, and the function is jumped to.
pub(super) fn is_resolver_tail(code: &Code, at: u64) -> bool {
    let bytes = code.slice(at, at.saturating_add((TAIL * INSTRUCTION_BYTES_MAX) as u64));
    let tail: Vec<Instruction> = decode(bytes, at).take(TAIL).collect();
    let [restore, loads @ .., frame, base, pop, jump] = tail.as_slice() else { return false };
    let loads_saved = loads.len() == SAVED.len()
        && loads.iter().zip(SAVED).all(|(load, register)| is_load(load, register, Register::RSP));
    let is_mov = matches!(frame.code(), Op::Mov_r64_rm64 | Op::Mov_rm64_r64);
    restore.code() == Op::Xrstor_mem
        && restore.memory_base() == Register::RSP
        && loads_saved
        && is_mov
        && (frame.op0_register(), frame.op1_register()) == (Register::RSP, Register::RBX)
        && is_load(base, Register::RBX, Register::RSP)
        && matches!(pop.code(), Op::Add_rm64_imm8 | Op::Add_rm64_imm32)
        && pop.op0_register() == Register::RSP
        && (jump.code(), jump.op0_register()) == (Op::Jmp_rm64, Register::R11)
}

fn is_load(instruction: &Instruction, register: Register, base: Register) -> bool {
    instruction.code() == Op::Mov_r64_rm64
        && instruction.op0_register() == register
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_base() == base
        && instruction.memory_index() == Register::None
}

/// A far jump, call or return.
pub(super) struct Far {
    /// Its address.
    pub(super) at: u64,
    /// As a disassembler shows it.
    pub(super) text: Box<str>,
}

/// The first far transfers in functions that can be decoded from start to end. One in which something cannot be decoded
/// has data in it, and what looks like a far return there proves nothing.
pub(super) fn far_transfers(code: &Code, symbols: &Symbols<'_>) -> Vec<Far> {
    let is_whole = |symbol: &&Symbol| symbol.kind == Kind::Function && symbol.has_size;
    symbols.iter().filter(is_whole).filter_map(|symbol| far_transfer(code, symbol)).take(FAR_MAX).collect()
}

fn far_transfer(code: &Code, function: &Symbol) -> Option<Far> {
    let mut found = None;
    for instruction in decode(code.slice(function.at, function.end), function.at) {
        if instruction.is_invalid() {
            return None;
        }
        if found.is_none() && is_far(&instruction) {
            found = Some(instruction);
        }
    }
    found.map(|instruction| Far { at: instruction.ip(), text: text(&instruction) })
}

fn is_far(instruction: &Instruction) -> bool {
    let is_return =
        matches!(instruction.mnemonic(), Mnemonic::Retf | Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq);
    let code = instruction.code();
    let is_jump = matches!(code, Op::Jmp_m1616 | Op::Jmp_m1632 | Op::Jmp_m1664);
    let is_call = matches!(code, Op::Call_m1616 | Op::Call_m1632 | Op::Call_m1664);
    is_return || is_jump || is_call
}

/// Bytes of the instruction that `bytes` begins with.
#[cfg(test)]
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    decode(bytes, 0)
        .next()
        .filter(|instruction| !instruction.is_invalid())
        .map(|instruction| instruction.len())
}
