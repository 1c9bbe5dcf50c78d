//! The loader: an ELF file becomes the memory of a seat, ready to run from its first instruction.
//!
//! Pages come from the file that they lie in, privately; what a page holds besides its segment is zeroed. The deploy-time check's
//! patches are written over the code, then every executable byte is scanned, patched or not: what is forbidden is refused
//! here, whatever anyone said before. Only then do pages become executable.

// UNSAFETY: looks at the memory of a guest that does not run yet.
#![expect(unsafe_code, reason = "writes and reads the image while it is being built")]

use baton_abi::cell::{GATE_PAGE_AT, STACK_BYTES, STACK_TOP, VDSO_AT};
use baton_abi::gate::AT_BATON;
use baton_abi::plan::{Entry, Patch};
use rustix::io::Errno;

use crate::bundle::Bundle;
use crate::elf::{self, ElfError, Image};
use crate::executable::Executable;
use crate::os::{self, Os};
use crate::scan::{self, Finding};
use crate::space::Space;
use crate::sys::{self, Access, Backing, PAGE, PAGE_BYTES};

/// Bytes of strings that a guest may get: arguments and environment.
const STRINGS_MAX: usize = 256 * 1024;

/// Why a file cannot be a compartment.
#[derive(Debug)]
pub(crate) enum LoadError {
    Elf(ElfError),
    /// A segment lies partly in the one file and partly in the other.
    Split {
        at: u64,
    },
    /// An instruction that changes keys or segment bases.
    Forbidden {
        at: u64,
        finding: Finding,
    },
    /// The plan writes over something that is not code.
    Patch {
        at: u64,
        bytes: usize,
    },
    /// The plan has a patch that cannot be read.
    MalformedPatch,
    /// Arguments and environment are too long.
    Strings {
        bytes: usize,
    },
    /// Image and stack need more than `memory` allows.
    Memory(os::ConfigError),
    /// The kernel refused a mapping.
    Map {
        step: &'static str,
        errno: Errno,
    },
}

impl core::fmt::Display for LoadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LoadError::Elf(error) => write!(f, "{error}"),
            LoadError::Split { at } => write!(
                f,
                "the segment at image address {at:#x} lies partly in the program that it shares with others; deploy the \
                 function again"
            ),
            LoadError::Forbidden { at, finding } => write!(
                f,
                "forbidden instruction {} at image address {at:#x}: code that changes memory keys or segment bases cannot \
                 run in a compartment; rebuild without it, or use `isolation = \"process\"`",
                finding.what
            ),
            LoadError::Patch { at, bytes } => write!(
                f,
                "the plan patches {bytes} bytes at image address {at:#x}, which are not code; deploy the function again"
            ),
            LoadError::MalformedPatch => f.write_str(
                "the plan has a patch that cannot be read; use `baton` and `baton-cell` of one build",
            ),
            LoadError::Strings { bytes } => {
                write!(f, "arguments and environment of {bytes} bytes: at most {STRINGS_MAX} fit")
            }
            LoadError::Memory(os::ConfigError::Memory { needed }) => {
                write!(f, "image and stack need {needed} bytes, more than `memory` in the manifest allows")
            }
            LoadError::Memory(error) => write!(f, "the image's layout: {error:?}"),
            LoadError::Map { step, errno } => write!(f, "{step}: {errno}"),
        }
    }
}

fn at_step(step: &'static str) -> impl FnOnce(Errno) -> LoadError {
    move |errno| LoadError::Map { step, errno }
}

/// A guest that is ready to begin.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) entry: u64,
    pub(crate) stack_pointer: u64,
    pub(crate) os: Os,
    /// What the library OS was made after.
    pub(crate) config: os::Config,
    /// Where the image's file is mapped unchanged: `(address, file offset, bytes)`.
    pub(crate) from_file: Vec<(u64, u64, u64)>,
}

/// What a function is loaded from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) executable: &'a Executable,
    /// What it finds in its directory.
    pub(crate) files: Bundle<'static>,
}

/// Lays an executable into `space`.
pub(crate) fn load(space: &mut Space, source: &Source<'_>, entry: &Entry<'_>) -> Result<Loaded, LoadError> {
    let Source { executable, files } = *source;
    let file = executable.bytes();
    let image = Image::parse(file).map_err(LoadError::Elf)?;
    let mut from_file = Vec::new();
    let mut mapped_to = 0;
    for segment in image.segments() {
        if !executable.is_whole(segment.offset, segment.file_bytes) {
            return Err(LoadError::Split { at: segment.at });
        }
        lay(space, executable, segment, &mut mapped_to)?;
        let whole_from = segment.at.next_multiple_of(PAGE);
        let whole_to = (segment.at + segment.file_bytes) & !(PAGE - 1);
        if segment.access == elf::Access::Read && whole_from < whole_to {
            let offset = segment.offset + (whole_from - segment.at);
            from_file.push((space.base() + whole_from, offset, whole_to - whole_from));
        }
    }
    for relocation in image.relocations(file) {
        relocate(space, relocation);
    }
    patch(space, &image, entry)?;
    for code in image.code() {
        let bytes = whole(space, &code);
        if let Some(finding) = scan::scan(bytes).next() {
            return Err(LoadError::Forbidden { at: code.start + finding.offset as u64, finding });
        }
    }
    close(space, &image)?;
    let stack = space.base() + STACK_TOP - STACK_BYTES;
    space.map(stack, STACK_BYTES, Access::Write, Backing::Anonymous).map_err(at_step("mapping the stack"))?;
    let stack_pointer = fill_stack(space, &image, entry)?;
    let config = os::Config::at(space.base(), segments(space, &image), entry.memory_bytes);
    let config = os::Config { files, ..config };
    let os = Os::new(config.clone()).map_err(LoadError::Memory)?;
    Ok(Loaded { entry: space.base() + image.entry(), stack_pointer, os, config, from_file })
}

fn relocate(space: &mut Space, relocation: elf::Relocation) {
    let base = space.base();
    let value = match relocation {
        elf::Relocation::Set { addend, .. } => base.wrapping_add(addend),
        elf::Relocation::Add { at } => {
            let mut word = [0; 8];
            space.read(base + at, &mut word);
            u64::from_le_bytes(word).wrapping_add(base)
        }
    };
    // Parsing has checked that the word lies in a writable segment.
    space.write(base + relocation.at(), &value.to_le_bytes());
}

/// Maps one segment writable, with nothing but its own bytes in its pages.
fn lay(
    space: &mut Space,
    executable: &Executable,
    segment: &elf::Segment,
    mapped_to: &mut u64,
) -> Result<(), LoadError> {
    let pages = segment.pages();
    let file_end = segment.at + segment.file_bytes;
    let base = space.base();
    // A page that the segment before it has as well is there already.
    let start = pages.start.max(*mapped_to);
    let backed_to = if segment.file_bytes == 0 { start } else { file_end.next_multiple_of(PAGE).max(start) };
    if start < backed_to {
        let offset = segment.offset - (segment.at - pages.start) + (start - pages.start);
        let backing = executable.backing(offset);
        space
            .map(base + start, backed_to - start, Access::Write, backing)
            .map_err(at_step("mapping the image"))?;
        zero(space, base + start, base + segment.at.max(start));
        zero(space, base + file_end.max(start), base + backed_to);
    }
    if backed_to < pages.end {
        space
            .map(base + backed_to, pages.end - backed_to, Access::Write, Backing::Anonymous)
            .map_err(at_step("mapping zeros behind the image"))?;
    }
    if start > segment.at {
        let shared = usize::try_from(start.min(file_end).saturating_sub(segment.at)).unwrap_or(0);
        let bytes = segment.bytes(executable.bytes()).get(..shared).unwrap_or_default();
        space.write(base + segment.at, bytes);
    }
    *mapped_to = pages.end;
    Ok(())
}

fn zero(space: &mut Space, from: u64, to: u64) {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    if from < to {
        // Less than a page: the rest of one that holds a segment's first or last bytes.
        let len = usize::try_from(to - from).unwrap_or(0);
        space.write(from, ZEROS.get(..len).unwrap_or_default());
    }
}

/// The bytes of a range of the image.
fn whole<'s>(space: &'s mut Space, range: &core::ops::Range<u64>) -> &'s [u8] {
    let len = usize::try_from(range.end - range.start).unwrap_or(0);
    // SAFETY: the loader has just mapped these pages readable and writable; no guest runs, and the borrow of `space` keeps
    // everyone else away.
    unsafe { core::slice::from_raw_parts((space.base() + range.start) as *const u8, len) }
}

/// Writes what the plan has for the code. A patch lies within one range of executable pages, and may lie behind the last
/// byte of a segment: the rest of the page is scanned as the code is.
fn patch(space: &mut Space, image: &Image, entry: &Entry<'_>) -> Result<(), LoadError> {
    for string in entry.patches.iter() {
        let patch = Patch::parse(string).ok_or(LoadError::MalformedPatch)?;
        let (at, bytes) = (patch.at(), patch.bytes());
        let fault = LoadError::Patch { at, bytes: bytes.len() };
        let Some(end) = at.checked_add(bytes.len() as u64) else { return Err(fault) };
        if !image.code().any(|code| code.start <= at && end <= code.end) {
            return Err(fault);
        }
        space.write(space.base() + at, bytes);
    }
    Ok(())
}

/// Gives every segment its access for good.
fn close(space: &mut Space, image: &Image) -> Result<(), LoadError> {
    for segment in image.segments() {
        let access = match segment.access {
            elf::Access::Read => Access::Read,
            elf::Access::Write => continue,
            elf::Access::Execute => Access::Execute,
        };
        let pages = segment.pages();
        space
            .protect(space.base() + pages.start, pages.end - pages.start, access)
            .map_err(at_step("protecting the image"))?;
    }
    if let Some(relro) = image.relro().filter(|_| !image.relocates_itself()) {
        space
            .protect(space.base() + relro.start, relro.end - relro.start, Access::Read)
            .map_err(at_step("protecting relocated data"))?;
    }
    Ok(())
}

/// What the library OS is told of the image: its ranges as they are mapped now.
fn segments(space: &Space, image: &Image) -> Vec<os::Segment> {
    let end = space.base() + image.span().end;
    space
        .regions()
        .filter(|(at, _)| *at < end)
        .map(|(at, region)| os::Segment {
            at,
            len: region.end - at,
            access: match region.access {
                Access::Execute => os::Access::Execute,
                Access::Write => os::Access::ReadWrite,
                Access::Read | Access::None => os::Access::Read,
            },
        })
        .collect()
}

/// Puts arguments, environment and auxiliary vector on the stack; gives the stack pointer.
fn fill_stack(space: &mut Space, image: &Image, entry: &Entry<'_>) -> Result<u64, LoadError> {
    let top = space.base() + STACK_TOP;
    let mut strings = Vec::new();
    let mut add = |bytes: &[u8]| {
        let at = strings.len() as u64;
        strings.extend_from_slice(bytes);
        strings.push(0);
        at
    };
    let args: Vec<u64> = entry.args.iter().map(&mut add).collect();
    let env: Vec<u64> = entry.env.iter().map(&mut add).collect();
    let platform = add(b"x86_64");
    let name = add(b"/function");
    let mut seed = [0; 16];
    sys::random(&mut seed);
    let random = add(&seed);
    if strings.len() > STRINGS_MAX {
        return Err(LoadError::Strings { bytes: strings.len() });
    }
    let strings_at = (top - strings.len() as u64) & !15;
    space.write(strings_at, &strings);
    let mut words = vec![args.len() as u64];
    words.extend(args.iter().map(|at| strings_at + at));
    words.push(0);
    words.extend(env.iter().map(|at| strings_at + at));
    words.push(0);
    let pointers = [(15, platform), (31, name), (25, random)];
    let vector = auxiliary(space.base(), image);
    words.extend(vector.into_iter().flat_map(|(kind, value)| [kind, value]));
    words.extend(pointers.into_iter().flat_map(|(kind, at)| [kind, strings_at + at]));
    words.extend([0, 0]);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = (strings_at - bytes.len() as u64) & !15;
    space.write(at, &bytes);
    Ok(at)
}

fn auxiliary(base: u64, image: &Image) -> Vec<(u64, u64)> {
    const FSGSBASE: u64 = 2;
    // SAFETY: takes a number and gives one.
    let of_host = |kind| unsafe { libc::getauxval(kind) };
    vec![
        (libc::AT_PHDR, base + image.headers_at()),
        (libc::AT_PHENT, 56),
        (libc::AT_PHNUM, u64::from(image.header_count())),
        (libc::AT_PAGESZ, PAGE),
        (libc::AT_BASE, 0),
        (libc::AT_FLAGS, 0),
        (libc::AT_ENTRY, base + image.entry()),
        (libc::AT_UID, 65534),
        (libc::AT_EUID, 65534),
        (libc::AT_GID, 65534),
        (libc::AT_EGID, 65534),
        (libc::AT_SECURE, 0),
        (libc::AT_CLKTCK, 100),
        (libc::AT_HWCAP, of_host(libc::AT_HWCAP)),
        // Segment bases are the runtime's to set.
        (libc::AT_HWCAP2, of_host(libc::AT_HWCAP2) & !FSGSBASE),
        (libc::AT_MINSIGSTKSZ, of_host(libc::AT_MINSIGSTKSZ)),
        (libc::AT_SYSINFO_EHDR, VDSO_AT),
        (AT_BATON, GATE_PAGE_AT),
    ]
}
