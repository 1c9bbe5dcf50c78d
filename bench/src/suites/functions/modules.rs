//! Modules that are really distinct, and the apps that they are deployed in.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::{APP_FUNCTIONS_MAX, IDLE_SECONDS};

/// Digits of the number that a function answers with; so many bytes fit into a descriptor.
pub(super) const DIGITS: usize = 8;
/// Sections of a module, by their numbers.
const TYPES: u8 = 1;
const IMPORTS: u8 = 2;
const FUNCTIONS: u8 = 3;
const MEMORIES: u8 = 5;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;
const DATA: u8 = 11;
/// Where a module wants its events.
const PARCEL: i64 = 1024;

/// What a function answers.
pub(super) fn answer(function: u32) -> String {
    format!("{function:0width$}", width = DIGITS)
}

/// Where a function is reached.
pub(super) fn path(function: u32) -> String {
    format!("/f{function}")
}

/// Writes the manifest of an app and the modules of its functions.
pub(super) fn write(directory: &Path, app: u32, functions: u32) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let first = app * APP_FUNCTIONS_MAX;
    let own = first..functions.min(first + APP_FUNCTIONS_MAX);
    let mut manifest = format!("[app]\nname = \"many-{app}\"\n[pool]\nsize = \"4MiB\"\n");
    for function in own {
        fs::write(directory.join(format!("f{function}.wasm")), module(function))?;
        let path = path(function);
        // Writing to a string cannot fail.
        let _ = write!(
            manifest,
            "[functions.f{function}]\nartifact = \"f{function}.wasm\"\nisolation = \"wasm\"\nmemory = \"4MiB\"\n\
             scale = {{ min = 0, idle = \"{IDLE_SECONDS}s\" }}\n[[routes]]\npath = \"{path}\"\nfunction = \"f{function}\"\n"
        );
    }
    fs::write(directory.join("baton.toml"), manifest)
}

/// A module that answers every request with its number, which it computes from its data and from code that no other has.
fn module(function: u32) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let (i32_, i64_) = (0x7f, 0x7e);
    let gate = [&[0x60, 4, i32_, i64_, i64_, i64_][..], &[1, i64_]].concat();
    let types = [gate, vec![0x60, 0, 1, i32_], vec![0x60, 0, 0], vec![0x60, 1, i64_, 1, i64_]];
    section(&mut module, TYPES, &list(&types));
    section(&mut module, IMPORTS, &list(&[[name("baton"), name("gate"), vec![0, 0]].concat()]));
    section(&mut module, FUNCTIONS, &[3, 1, 2, 3]);
    section(&mut module, MEMORIES, &[1, 0, 1]);
    let exports = [("memory", [2, 0]), ("baton_parcel", [0, 1]), ("baton_event", [0, 2])];
    section(
        &mut module,
        EXPORTS,
        &list(&exports.map(|(export, what)| [name(export), what.to_vec()].concat())),
    );
    let code = [body(constant(0x41, PARCEL)), body(event()), body(unmask(function))];
    section(&mut module, CODE, &list(&code));
    let masked = u64::from_le_bytes(text_of(function)) ^ mask(function);
    let bytes = [masked.to_le_bytes().to_vec(), filler(function)].concat();
    let place = [constant(0x41, 0), vec![0x0b]].concat();
    section(&mut module, DATA, &list(&[[vec![0], place, unsigned(bytes.len() as u64), bytes].concat()]));
    module
}

fn text_of(function: u32) -> [u8; DIGITS] {
    let mut text = [b'?'; DIGITS];
    text.iter_mut().zip(answer(function).bytes()).for_each(|(place, digit)| *place = digit);
    text
}

/// Another number for each function.
fn mask(function: u32) -> u64 {
    (u64::from(function) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Data of a length of its own, up to 4 KiB.
fn filler(function: u32) -> Vec<u8> {
    let len = usize::try_from(mask(function) >> 52).unwrap_or_default();
    let mask = mask(function).to_le_bytes();
    let byte = |(at, part): (usize, &u8)| part ^ at.to_le_bytes()[0];
    mask.iter().cycle().take(len).enumerate().map(byte).collect()
}

/// `(i64.xor (local.get 0) (i64.const mask))`, with as much arithmetic around it that comes to nothing as the function says.
fn unmask(function: u32) -> Vec<u8> {
    let mut code = vec![0x20, 0];
    for step in 0..function % 17 {
        let odd = i64::from(function) * 31 + i64::from(step);
        code.extend(constant(0x42, odd));
        code.push(0x7c); // i64.add
        code.extend(constant(0x42, odd));
        code.push(0x7d); // i64.sub
    }
    code.extend(constant(0x42, mask(function).cast_signed()));
    code.push(0x85); // i64.xor
    code
}

/// Answers a request: the words of the descriptor in the parcel, then the gate.
fn event() -> Vec<u8> {
    let mut code = Vec::new();
    let at = |code: &mut Vec<u8>, offset: i64| code.extend(constant(0x41, PARCEL + offset));
    // Anything but a request is nothing to do.
    at(&mut code, 0);
    code.extend([0x2d, 0, 0]); // i32.load8_u
    code.extend(constant(0x41, 1));
    code.extend([0x47, 0x04, 0x40, 0x0f, 0x0b]); // ne, if, return, end
    for (offset, value, store) in [(0, 2, 0x3a), (1, 16, 0x3a), (2, 200, 0x3b)] {
        // An answer, its payload in the descriptor, its status.
        at(&mut code, offset);
        code.extend(constant(0x41, value));
        code.extend([store, 0, 0]);
    }
    for (offset, value) in [(24, 0xffff_ffff), (40, DIGITS as i64), (48, 0xffff_ffff)] {
        at(&mut code, offset);
        code.extend(constant(0x42, value));
        code.extend([0x37, 0, 0]); // i64.store
    }
    at(&mut code, 32);
    code.extend(constant(0x41, 0));
    code.extend([0x29, 0, 0, 0x10, 3, 0x37, 0, 0]); // i64.load, call, i64.store
    code.extend(constant(0x41, 1));
    code.extend([constant(0x42, PARCEL), constant(0x42, 0), constant(0x42, 0)].concat());
    code.extend([0x10, 0, 0x1a]); // call, drop
    code
}

/// A function without locals.
fn body(code: Vec<u8>) -> Vec<u8> {
    [unsigned(code.len() as u64 + 2), vec![0], code, vec![0x0b]].concat()
}

fn constant(instruction: u8, value: i64) -> Vec<u8> {
    let mut bytes = vec![instruction];
    let mut rest = value;
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        let is_last = (rest == 0 && low & 0x40 == 0) || (rest == -1 && low & 0x40 != 0);
        bytes.push(if is_last { low } else { low | 0x80 });
        if is_last {
            return bytes;
        }
    }
}

fn unsigned(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

fn name(text: &str) -> Vec<u8> {
    [unsigned(text.len() as u64), text.as_bytes().to_vec()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [unsigned(items.len() as u64), items.concat()].concat()
}

fn section(module: &mut Vec<u8>, number: u8, content: &[u8]) {
    module.push(number);
    module.extend(unsigned(content.len() as u64));
    module.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn modules_are_distinct_and_so_are_their_answers() {
        let modules: BTreeSet<Vec<u8>> = (0..1000).map(module).collect();
        let answers: BTreeSet<String> = (0..1000).map(answer).collect();
        assert_eq!((modules.len(), answers.len()), (1000, 1000));
        assert!(answers.iter().all(|answer| answer.len() == DIGITS));
    }

    #[test]
    fn numbers_are_written_as_the_format_has_them() {
        assert_eq!(constant(0x41, 1024), [0x41, 0x80, 0x08]);
        assert_eq!(constant(0x42, -1), [0x42, 0x7f]);
        assert_eq!(constant(0x42, 64), [0x42, 0xc0, 0]);
        assert_eq!(unsigned(624_485), [0xe5, 0x8e, 0x26]);
    }

    #[test]
    fn the_last_app_has_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 1, 70).unwrap();
        let manifest = fs::read_to_string(directory.path().join("baton.toml")).unwrap();
        assert_eq!(manifest.matches("[functions.").count(), 6);
        assert!(directory.path().join("f69.wasm").is_file() && manifest.contains("path = \"/f64\""));
    }
}
