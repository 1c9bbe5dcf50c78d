//! What a fault of a module means: the engine's table of the instructions that may trap.
//!
//! ```text
//!  section  ┌ entries u32 ┬ blocks u32 ┬ blocks × (first place u32, where in the bodies u32) ┬ bodies ┐
//!  body     ┌ usual code u8 ┬ up to 128 × (ULEB128: distance to the place before << 1 | has a code of its own, [code u8]) ┐
//! ```
//! Places count from the start of the code. The engine has no part in a trap here, so the node reads its table: that of the version
//! that `Cargo.toml` pins. A file is nobody's word: what does not fit has no meaning.

use crate::artifact::HEADER_BYTES;
use crate::elf::{Elf, LOAD};
use crate::weld::welded;

const SECTION: &[u8] = b".wasmtime.traps\0";
const BLOCK_ENTRIES: usize = 128;

/// What the instruction at `at` of an executable's image trapped for; `None` if it is none of its module's that may trap.
/// `executable` is what [`crate::weld()`] gave.
#[must_use]
pub fn trap_at(executable: &[u8], at: u64) -> Option<&'static str> {
    let artifact = welded(executable)?;
    let code = Elf(artifact.get(HEADER_BYTES..)?);
    let elf = Elf(executable);
    let loads = || Some(elf.segments()?.filter(|segment| segment.kind == LOAD));
    // Addresses count from the first page of the image.
    let base = loads()?.map(|segment| segment.memory.start).min()? & !(HEADER_BYTES as u64 - 1);
    let text = Elf(artifact).long(112)?.checked_add(HEADER_BYTES as u64)?;
    let text = loads()?.find(|segment| segment.file.start == text)?.memory.start.checked_sub(base)?;
    let place = u32::try_from(at.checked_sub(text)?).ok()?;
    words(code_of(code.section_named(SECTION)?, place)?)
}

fn code_of(section: &[u8], place: u32) -> Option<u8> {
    let table = Elf(section);
    let (entries, blocks) = (table.word(0)? as usize, table.word(4)? as usize);
    let index = section.get(8..blocks.checked_mul(8)?.checked_add(8)?)?;
    let bodies = section.get(8 + index.len()..)?;
    let first = |block: &[u8; 8]| Elf(block).word(0).unwrap_or(u32::MAX);
    let (index, _) = index.as_chunks();
    let block = index.partition_point(|block| first(block) <= place).checked_sub(1)?;
    let found = index.get(block)?;
    let body = bodies.get(Elf(found).word(4)? as usize..)?;
    let (&usual, mut rest) = body.split_first()?;
    let mut at = first(found);
    for _ in 0..entries.checked_sub(block.checked_mul(BLOCK_ENTRIES)?)?.min(BLOCK_ENTRIES) {
        let token = uleb(&mut rest)?;
        at = at.checked_add(token >> 1)?;
        let code = if token & 1 == 0 { usual } else { *rest.split_off_first()? };
        if at >= place {
            return (at == place).then_some(code);
        }
    }
    None
}

fn uleb(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.split_off_first()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// What a code means, for those that core modules with the proposals of this build can come to.
fn words(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "call stack exhausted",
        1 => "out of bounds memory access",
        3 => "undefined element: out of bounds table access",
        4 => "uninitialized element",
        5 => "indirect call type mismatch",
        6 => "integer overflow",
        7 => "integer divide by zero",
        8 => "invalid conversion to integer",
        9 => "unreachable",
        10 => "interrupt",
        13 => "null reference",
        15 => "allocation size too large",
        _ => return None,
    })
}

#[cfg(test)]
#[cfg(feature = "compile")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SEAL_BYTES;

    const TRAPS: &str = r#"(module
        (import "baton" "gate" (func (param i32 i64 i64 i64) (result i64)))
        (type $none (func))
        (table 4 funcref)
        (memory (export "memory") 2 4)
        (func (export "baton_parcel") (result i32) i32.const 64)
        (func (export "baton_event") unreachable)
        (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
        (func (export "load") (param i32) (result i32) (i32.load offset=4 (local.get 0)))
        (func (export "call") (param i32) (call_indirect (type $none) (local.get 0)))
        (func (export "convert") (param f64) (result i32) (i32.trunc_f64_s (local.get 0))))"#;

    fn executable() -> Vec<u8> {
        let artifact = crate::compile(&wat::parse_str(TRAPS).unwrap()).unwrap();
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        [crate::weld(&program, &artifact).unwrap(), vec![0; SEAL_BYTES]].concat()
    }

    /// Everything that the engine's own reader finds is found here, under its name.
    #[test]
    fn traps_are_those_of_the_engine() {
        let executable = executable();
        let artifact = welded(&executable).unwrap();
        let section = Elf(&artifact[HEADER_BYTES..]).section_named(SECTION).unwrap();
        let theirs: Vec<_> = wasmtime_environ::iterate_traps(section).unwrap().collect();
        let mut seen = std::collections::BTreeSet::new();
        for (place, trap) in &theirs {
            let own = words(code_of(section, *place).unwrap()).unwrap();
            let wasmtime_environ::CompiledTrap::Normal(trap) = trap else { panic!("{trap:?}") };
            let told = trap.to_string();
            assert!(told.contains(own), "{told} is {own:?} here");
            seen.insert(own);
        }
        for wanted in [
            "unreachable",
            "out of bounds memory access",
            "integer divide by zero",
            "integer overflow",
            "call stack exhausted",
            "indirect call type mismatch",
            "invalid conversion to integer",
        ] {
            assert!(seen.contains(wanted), "{wanted} is not in {seen:?}");
        }
        let places: Vec<u32> = theirs.iter().map(|(place, _)| *place).collect();
        let beside = (0..places.last().unwrap() + 9).filter(|place| !places.contains(place));
        beside.for_each(|place| assert_eq!(code_of(section, place), None, "{place}"));
    }

    #[test]
    fn addresses_are_those_of_the_image() {
        let executable = executable();
        let artifact = welded(&executable).unwrap();
        let section = Elf(&artifact[HEADER_BYTES..]).section_named(SECTION).unwrap();
        let loads: Vec<_> =
            Elf(&executable).segments().unwrap().filter(|segment| segment.kind == LOAD).collect();
        let base = loads[0].memory.start & !0xfff;
        let text = loads[loads.len() - 2].memory.start - base;
        for (place, _) in wasmtime_environ::iterate_traps(section).unwrap() {
            let found = trap_at(&executable, text + u64::from(place));
            assert!(found.is_some() && found == words(code_of(section, place).unwrap()));
        }
        assert_eq!(trap_at(&executable, 0), None);
        assert_eq!(trap_at(&executable, u64::MAX), None);
        assert_eq!(trap_at(b"", 7), None);
    }

    proptest! {
        #[test]
        fn any_table_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), blocks in 0u32..20, place: u32) {
            let _ = code_of(&bytes, place);
            let counted = [&1000u32.to_le_bytes()[..], &blocks.to_le_bytes(), &bytes].concat();
            let _ = code_of(&counted, place);
            let _ = trap_at(&bytes, u64::from(place));
        }
    }
}
