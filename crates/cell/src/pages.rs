//! Pages that are there once in a cell: the gate page, the vDSO, the shared block, and the runtime's own text.

// UNSAFETY: maps pages at fixed places, and reads and patches the runtime's own text.
#![expect(unsafe_code, reason = "pages at fixed addresses, and the program's own headers")]

use std::os::fd::OwnedFd;

use baton_abi::ABI_VERSION;
use baton_abi::cell::{ANY_CORE, GATE_PAGE_AT, VDSO_AT};
use baton_abi::gate::{GATE_MAGIC, GATES, GATES_MAX, GatePage};
use rustix::io::Errno;

use crate::arch::{SHARE, label};
use crate::bundle::{BUNDLE_BYTES_MAX, Bundle};
use crate::keys::Keys;
use crate::scan;
use crate::sys::{self, Access, Backing, PAGE, PAGE_BYTES};
use crate::vdso;

/// The gate page, as the runtime writes it.
pub(crate) fn gate_page() -> *mut GatePage {
    GATE_PAGE_AT as *mut GatePage
}

/// Maps what all guests see, under the key that lets them read it.
pub(crate) fn map_common(keys: &Keys) -> Result<(), Errno> {
    // SAFETY: nothing else is mapped there in a process that has just begun.
    unsafe { sys::map(GATE_PAGE_AT, PAGE, Access::Write, Backing::Anonymous, keys.share) }?;
    let mut gates = [0; GATES_MAX];
    for (number, gate) in gates.iter_mut().enumerate().take(GATES) {
        *gate = label::gate(number);
    }
    // SAFETY: the page has just been mapped writable, and is larger than the structure.
    unsafe {
        gate_page().write(GatePage { magic: GATE_MAGIC, abi_version: ABI_VERSION, gates, incarnation: 1 })
    };
    // SAFETY: as for the gate page.
    unsafe { sys::map(VDSO_AT, PAGE, Access::Write, Backing::Anonymous, keys.share) }?;
    let object = vdso::build();
    // SAFETY: the page has just been mapped writable, and is as large as the object.
    unsafe { core::ptr::copy_nonoverlapping(object.as_ptr(), VDSO_AT as *mut u8, object.len()) };
    sys::protect(VDSO_AT, PAGE, Access::Execute, keys.share)?;
    sys::protect(SHARE.get() as u64, PAGE, Access::Write, keys.share)
}

/// The bytes of a bundle, mapped for good.
fn file(fd: &OwnedFd, bytes: u64) -> Result<&'static [u8], Errno> {
    let len = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
    if len == 0 || rustix::fs::fstat(fd)?.st_size < i64::try_from(bytes).unwrap_or(i64::MAX) {
        return Err(Errno::NOEXEC);
    }
    // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing. It is private, never unmapped, and the
    // node's artifacts are never written once they have their name.
    let mapped = unsafe {
        let flags = rustix::mm::MapFlags::PRIVATE;
        rustix::mm::mmap(core::ptr::null_mut(), len, rustix::mm::ProtFlags::READ, flags, fd, 0)
    }?;
    // SAFETY: mapped readable, that long, for the rest of the process's life.
    Ok(unsafe { core::slice::from_raw_parts(mapped.cast(), len) })
}

/// The files of a function, mapped for good and once for all cells: they are read where they lie.
pub(crate) fn bundle(fd: &OwnedFd, bytes: u64) -> Result<Bundle<'static>, String> {
    if bytes > BUNDLE_BYTES_MAX {
        return Err(format!("its files: a bundle of {bytes} bytes, the most is {BUNDLE_BYTES_MAX}"));
    }
    let bytes = file(fd, bytes).map_err(|errno| format!("its files: {errno}"))?;
    Bundle::parse(bytes).map_err(|error| format!("its files: {error}"))
}

/// Scans the runtime's own text. Outside of the gates nothing may change keys: what the C library brings for lazy binding,
/// which a static program never does, is overwritten by traps. The build's check has looked at the same bytes and knows
/// that nothing else is there; whatever is not at the start of such an instruction stops the cell here.
pub(crate) fn clean_own_text() -> Result<(), u64> {
    let gates = label::range();
    for (start, len) in own_code() {
        // SAFETY: a loaded, executable segment of this very program.
        let bytes = unsafe { core::slice::from_raw_parts(start as *const u8, len) };
        let found: Vec<u64> = scan::scan(bytes)
            .map(|finding| start + finding.offset as u64)
            .filter(|at| !gates.contains(at))
            .collect();
        for at in found {
            disarm(at)?;
        }
        if let Some(left) =
            scan::scan(bytes).map(|finding| start + finding.offset as u64).find(|at| !gates.contains(at))
        {
            return Err(left);
        }
    }
    Ok(())
}

fn disarm(at: u64) -> Result<(), u64> {
    let page = at & !(PAGE - 1);
    sys::protect(page, 2 * PAGE, Access::Write, 0).map_err(|_| at)?;
    // SAFETY: the two pages hold the instruction, which is at most fifteen bytes long, and are writable now. They hold
    // none of the code that runs here: the C library's resolver is never called.
    let code = unsafe { core::slice::from_raw_parts_mut(page as *mut u8, 2 * PAGE_BYTES) };
    let disarmed = scan::disarm(code, usize::try_from(at - page).unwrap_or(usize::MAX));
    sys::protect(page, 2 * PAGE, Access::Execute, 0).map_err(|_| at)?;
    disarmed.map_err(|_| at)
}

const PROGRAM_HEADER_BYTES: u64 = 56;

/// A value that the kernel told this program at its start.
fn auxiliary(kind: u64) -> u64 {
    // SAFETY: takes a number and gives one.
    unsafe { libc::getauxval(kind) }
}

/// A word of the headers of this program, or of the kernel's vDSO.
fn word(at: u64) -> u64 {
    // SAFETY: callers name words of headers that the kernel says are mapped.
    unsafe { (at as *const u64).read_unaligned() }
}

/// The executable segments of this program and of the kernel's vDSO: address and bytes.
fn own_code() -> Vec<(u64, usize)> {
    const HEADER_BYTES: usize = 64;
    let headers = auxiliary(libc::AT_PHDR);
    let (count, vdso) = (auxiliary(libc::AT_PHNUM), auxiliary(libc::AT_SYSINFO_EHDR));
    // The program headers follow the file header, which is the first thing that is loaded.
    let mut code = segments(headers, count, headers.wrapping_sub(HEADER_BYTES as u64));
    if vdso != 0 {
        // `e_phoff` and, in the low half of its word, `e_phnum`.
        let (offset, count) = (word(vdso + 32), word(vdso + 56) & 0xffff);
        code.extend(segments(vdso + offset, count, vdso));
    }
    code
}

/// The executable ones of `count` program headers, for a file that is loaded at `base`.
fn segments(headers: u64, count: u64, base: u64) -> Vec<(u64, usize)> {
    let mut found = Vec::new();
    for nth in 0..count {
        let header = headers + nth * PROGRAM_HEADER_BYTES;
        let (kind, at, len) = (word(header), word(header + 16), word(header + 40));
        let (kind, flags) = (kind & 0xffff_ffff, kind >> 32);
        if kind == 1 && flags & 1 != 0 {
            found.push((base.wrapping_add(at), usize::try_from(len).unwrap_or(0)));
        }
    }
    found
}

/// Stays on one core, if the node names one. It is a wish: a cell runs elsewhere if the kernel refuses.
pub(crate) fn run_on(core: u32) {
    if core == ANY_CORE {
        return;
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(core as usize);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}
