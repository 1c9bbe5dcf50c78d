//! Whether an executable may run in a compartment, found out when it is deployed and said in terms of its source.
//!
//! The cell refuses every forbidden encoding by itself, at every byte offset, and trusts nothing that is said here. But
//! it has neither symbols nor a disassembler, and two things need them: a message that names the function and the
//! instruction, and the rewriting of code that has such an encoding for nothing.
//!
//! | what the scan finds | becomes |
//! |---|---|
//! | `xrstor` in glibc's lazy resolver (`_dl_runtime_resolve…`), an instruction there | a trap: the resolver serves libraries that are bound on first use, and a static program has none |
//! | the same shape where symbols were stripped: `xrstor`, registers back from the stack, `jmp *%r11` | a trap |
//! | any other instruction | refused, with function, offset and instruction |
//! | part of an instruction (an immediate, a displacement), or across two | a detour that does the same ([`detour`]); where there is none, refused, with the instruction whose bytes they are |
//! | in data that is mapped executable, or where nothing can be decoded | refused, with the offset |
//!
//! The list of what is taken to be dead is exactly the resolver; a program that runs into a trap dies of it, and breaks no
//! wall. Nor does a wrong detour: the cell scans what it has patched.
//!
//! Far transfers are looked for here and only here (see [`baton_cell::scan`] for why they are no danger): a function that
//! decodes without a doubt from its start to its end and has one is refused. Files without symbols are not swept.

mod decode;
mod detour;
mod error;
mod symbols;

use baton_cell::elf::Image;
use baton_cell::scan::{self, Finding};
use baton_flow::Patch;

use self::detour::Detours;
pub use self::error::{Context, Objection, Place, VetError, Within};
use self::symbols::Symbols;

/// What glibc calls its lazy resolver; one for each way in which the processor saves its state.
const RESOLVER: &str = "_dl_runtime_resolve";
/// Findings of one range that are looked into.
const FINDINGS_MAX: usize = 64;
/// Bytes of the longest instruction.
const INSTRUCTION_BYTES_MAX: usize = 15;

/// An executable that a compartment may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vetted {
    /// What the cell writes over its code, in this order.
    pub patches: Vec<Patch>,
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
        let detours = Detours::new(&code, &image);
        verdict.judge(&mut code, detours, &image, &symbols);
        for far in decode::far_transfers(&code, &symbols) {
            let place = Place::find(far.at, &image, &symbols);
            verdict.object(Objection::FarTransfer { place, text: far.text });
        }
    }
    verdict.end()
}

/// Vets what a module adds to the program in which its executable goes on; that one is vetted by itself. `whole` is both files
/// as one. The compiler makes no far transfers, and has tables and constants among its code, which look like anything.
///
/// # Errors
/// As for [`vet`].
pub fn vet_module(whole: &[u8]) -> Result<Vetted, VetError> {
    let image = Image::parse(whole).map_err(VetError::Unloadable)?;
    let symbols = Symbols::read(whole);
    let mut verdict = Verdict::default();
    // It lies behind everything else.
    if let Some(range) = image.code().last() {
        let mut code = Code::lay(whole, &image, range.start, range.end);
        let detours = Detours::of_module(&code, &symbols);
        verdict.judge(&mut code, detours, &image, &symbols);
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

    /// Writes `bytes` over as many at address `at`, and gives what was there.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Vec<u8> {
        let start = at.checked_sub(self.at).and_then(|start| usize::try_from(start).ok());
        let place = start.and_then(|start| self.bytes.get_mut(start..)?.get_mut(..bytes.len()));
        place.map_or_else(Vec::new, |place| {
            let before = place.to_vec();
            place.copy_from_slice(bytes);
            before
        })
    }

    /// Overwrites the forbidden instruction at `offset` with a trap.
    fn disarm(&mut self, offset: usize) -> Option<Patch> {
        let before =
            self.bytes.get(offset..)?.iter().take(INSTRUCTION_BYTES_MAX).copied().collect::<Vec<_>>();
        scan::disarm(&mut self.bytes, offset).ok()?;
        let trap = self.bytes.get(offset..)?;
        let len = before.iter().zip(trap).rposition(|(before, now)| before != now)? + 1;
        Patch::new(self.address(offset), trap.get(..len)?)
    }

    fn address(&self, offset: usize) -> u64 {
        self.at + offset as u64
    }
}

#[derive(Debug, Default)]
struct Verdict {
    patches: Vec<Patch>,
    first: Option<Objection>,
    objections: usize,
}

impl Verdict {
    fn object(&mut self, objection: Objection) {
        self.objections += 1;
        self.first.get_or_insert(objection);
    }

    /// Judges all findings in `code`, which is patched where it may be.
    fn judge(&mut self, code: &mut Code, mut detours: Detours, image: &Image, symbols: &Symbols<'_>) {
        // More than this is not by chance, and the first says it.
        let findings: Vec<Finding> = scan::scan(&code.bytes).take(FINDINGS_MAX).collect();
        let mut refused = Vec::new();
        for (index, &finding) in findings.iter().enumerate() {
            // One detour may lead around several.
            let rest = code.bytes.get(finding.offset..).unwrap_or_default();
            if scan::begins(rest) != Some(finding.what) {
                continue;
            }
            let at = code.address(finding.offset);
            let place = Place::find(at, image, symbols);
            let context = decode::look(code, at, finding.what, symbols);
            let is_resolver =
                || place.symbol.as_ref().is_some_and(|symbol| symbol.name.starts_with(RESOLVER));
            let others = findings.get(index + 1..).unwrap_or_default();
            let patches = match &context {
                Context::Instruction { .. } if is_resolver() => {
                    code.disarm(finding.offset).map(|one| vec![one])
                }
                // Between symbols, or in a file without any.
                Context::Unknown if place.symbol.is_none() && decode::is_resolver_tail(code, at) => {
                    code.disarm(finding.offset).map(|one| vec![one])
                }
                Context::Part { .. } => detours.around(code, finding, others, symbols).map(Vec::from),
                Context::Instruction { .. } | Context::Unknown | Context::Data => None,
            };
            if let Some(patches) = patches {
                self.patches.extend(patches);
            } else {
                refused.push(finding);
                self.object(Objection::Forbidden { what: finding.what, place, context });
            }
        }
        // What the cell will do: patch, then scan. A trap that completed another encoding would be found there.
        let left = scan::scan(&code.bytes).filter(|finding| !refused.contains(finding));
        for finding in left.take(FINDINGS_MAX) {
            let place = Place::find(code.address(finding.offset), image, symbols);
            self.object(Objection::Forbidden { what: finding.what, place, context: Context::Unknown });
        }
    }

    fn end(self) -> Result<Vetted, VetError> {
        match self.first {
            Some(first) => Err(VetError::Refused { first, others: self.objections - 1 }),
            None => Ok(Vetted { patches: self.patches }),
        }
    }
}

#[cfg(test)]
mod tests;
