//! Whether an executable may run in a compartment, found out when it is deployed and said in terms of its source.
//!
//! The cell refuses every forbidden encoding by itself, at every byte offset, and trusts nothing that is said here. But
//! it has neither symbols nor a disassembler, and two things need them: a message that names the function and the
//! instruction, and the one rewriting that every static glibc program needs.
//!
//! | what the scan finds | becomes |
//! |---|---|
//! | `xrstor` in glibc's lazy resolver (`_dl_runtime_resolve…`), an instruction there | disarmed: the resolver serves libraries that are bound on first use, and a static program has none |
//! | the same shape where symbols were stripped: `xrstor`, registers back from the stack, `jmp *%r11` | disarmed |
//! | any other instruction | refused, with function, offset and instruction |
//! | part of an instruction (an immediate, a displacement), or across two | refused, with the instruction whose bytes they are |
//! | in data that is mapped executable, or where nothing can be decoded | refused, with the offset |
//!
//! The list of what is taken to be dead is exactly the resolver; a program that runs into a disarmed instruction dies of
//! it, and breaks no wall.
//!
//! Far transfers are looked for here and only here (see [`baton_cell::scan`] for why they are no danger): a function that
//! decodes without a doubt from its start to its end and has one is refused. Files without symbols are not swept.

mod decode;
mod error;
mod symbols;

use baton_cell::elf::Image;
use baton_cell::scan::{self, Finding};

pub use self::error::{Context, Objection, Place, VetError, Within};
use self::symbols::Symbols;

/// What glibc calls its lazy resolver; one for each way in which the processor saves its state.
const RESOLVER: &str = "_dl_runtime_resolve";
/// Findings of one range that are looked into.
const FINDINGS_MAX: usize = 64;

/// An executable that a compartment may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vetted {
    /// Offsets in the file of instructions that the cell overwrites with traps, ascending.
    pub disarm: Vec<u64>,
}

/// Vets the bytes of an executable.
///
/// # Errors
/// It cannot be loaded, or has instructions that no guest may have.
pub fn vet(file: &[u8]) -> Result<Vetted, VetError> {
    let image = Image::parse(file).map_err(VetError::Unloadable)?;
    let symbols = Symbols::read(file);
    let mut verdict = Verdict::default();
    for range in image.code() {
        let mut code = Code::lay(file, &image, range.start, range.end);
        verdict.judge(&mut code, &image, &symbols);
        for far in decode::far_transfers(&code, &symbols) {
            let place = Place::find(far.at, &image, &symbols);
            verdict.object(Objection::FarTransfer { place, text: far.text });
        }
    }
    verdict.end()
}

/// Executable pages as they lie in memory.
struct Code {
    /// Address of the first byte, from the seat's base.
    at: u64,
    bytes: Vec<u8>,
}

impl Code {
    /// The pages from `start` to `end`: what the segments have of the file, and zeros around it. An image's segments have
    /// no more bytes than its file, and these pages are full of them but for their ends.
    fn lay(file: &[u8], image: &Image, start: u64, end: u64) -> Code {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or_default()];
        for segment in image.executable() {
            let source = segment.bytes(file);
            let Some(skip) = segment.at.checked_sub(start).and_then(|skip| usize::try_from(skip).ok()) else {
                continue;
            };
            let Some(space) = bytes.get_mut(skip..).and_then(|space| space.get_mut(..source.len())) else {
                continue;
            };
            space.copy_from_slice(source);
        }
        Code { at: start, bytes }
    }

    /// The bytes from address `at` to `end`, or to the end of the pages.
    fn slice(&self, at: u64, end: u64) -> &[u8] {
        let index = |at: u64| at.checked_sub(self.at).and_then(|index| usize::try_from(index).ok());
        let end = index(end).map_or(0, |end| end.min(self.bytes.len()));
        index(at).and_then(|start| self.bytes.get(start..end)).unwrap_or_default()
    }

    fn address(&self, offset: usize) -> u64 {
        self.at + offset as u64
    }
}

#[derive(Debug, Default)]
struct Verdict {
    disarm: Vec<u64>,
    first: Option<Objection>,
    objections: usize,
}

impl Verdict {
    fn object(&mut self, objection: Objection) {
        self.objections += 1;
        self.first.get_or_insert(objection);
    }

    /// Judges all findings in `code`, which is disarmed where it may be.
    fn judge(&mut self, code: &mut Code, image: &Image, symbols: &Symbols<'_>) {
        // More than this is not by chance, and the first says it.
        let findings: Vec<Finding> = scan::scan(&code.bytes).take(FINDINGS_MAX).collect();
        for finding in &findings {
            let at = code.address(finding.offset);
            let place = Place::find(at, image, symbols);
            let context = decode::look(code, at, finding.what, symbols);
            let dead = match &context {
                Context::Instruction { .. } => {
                    place.symbol.as_ref().is_some_and(|symbol| symbol.name.starts_with(RESOLVER))
                }
                // Between symbols, or in a file without any.
                Context::Unknown => place.symbol.is_none() && decode::is_resolver_tail(code, at),
                Context::Part { .. } | Context::Data => false,
            };
            // The cell finds the place by its offset: bytes that are mapped twice are disarmed once.
            let is_named = image.code_at(place.offset) == Some(at);
            if dead && is_named && scan::disarm(&mut code.bytes, finding.offset).is_ok() {
                self.disarm.push(place.offset);
            } else {
                self.object(Objection::Forbidden { what: finding.what, place, context });
            }
        }
        // What the cell will do: disarm, then scan. A trap that completed another pattern would be found there.
        let left = scan::scan(&code.bytes).filter(|finding| !findings.contains(finding));
        for finding in left.take(FINDINGS_MAX) {
            let place = Place::find(code.address(finding.offset), image, symbols);
            self.object(Objection::Forbidden { what: finding.what, place, context: Context::Unknown });
        }
    }

    fn end(mut self) -> Result<Vetted, VetError> {
        match self.first {
            Some(first) => Err(VetError::Refused { first, others: self.objections - 1 }),
            None => {
                self.disarm.sort_unstable();
                Ok(Vetted { disarm: self.disarm })
            }
        }
    }
}

#[cfg(test)]
mod tests;
