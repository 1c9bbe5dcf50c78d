//! The extended state of the processor: how large it is, where PKRU lies in it, what a clean one looks like.

// UNSAFETY: asks the processor about itself and reads signal frames.
#![expect(unsafe_code, reason = "cpuid, xgetbv and reads of XSAVE areas")]

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

use super::{CORE, Place};

const X87_IN_USE: u64 = 1;
const PKRU: u64 = 1 << 9;
/// Tile configuration and data: a process has to ask for them, and cells do not.
const AMX: u64 = 0b11 << 17;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;
/// `XSTATE_BV`: which components are there.
const HEADER_AT: usize = 512;
/// Bytes of the largest area that is kept, without tiles.
const AREA_BYTES: usize = 4096;

/// An `XSAVE` area in the standard format, without tiles.
#[derive(Clone)]
#[repr(C, align(64))]
pub(crate) struct XsaveArea(pub(crate) [u8; AREA_BYTES]);

impl XsaveArea {
    /// Every component in its initial state.
    pub(crate) const fn clean() -> XsaveArea {
        let mut area = XsaveArea([0; AREA_BYTES]);
        // x87 control word and MXCSR as a new process has them.
        area.0[0] = 0x7f;
        area.0[1] = 0x03;
        area.0[24] = 0x80;
        area.0[25] = 0x1f;
        area
    }
}

#[derive(Clone, Copy)]
struct Facts {
    mask: u64,
    pkru_at: usize,
    bytes: usize,
}

static FACTS: Place<Facts> = Place::new(Facts { mask: 0, pkru_at: 0, bytes: 0 });

/// Why this processor cannot host compartments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XstateError {
    /// No memory keys in the extended state.
    NoKeys,
    /// The processor does not say which registers are in use.
    NoInUse,
    /// The extended state is larger than what is kept of it.
    TooLarge { bytes: usize },
}

/// Reads what the processor has. Call once, before the first guest.
pub(crate) fn init_xstate() -> Result<(), XstateError> {
    // Leaf 1, ecx bit 27: the system has enabled XSAVE.
    if __cpuid(1).ecx & (1 << 27) == 0 {
        return Err(XstateError::NoKeys);
    }
    // SAFETY: the system has enabled XSAVE, and with it this register.
    let enabled = unsafe { _xgetbv(0) };
    if enabled & PKRU == 0 {
        return Err(XstateError::NoKeys);
    }
    // Leaf 13.1, eax bit 2: the register of what is in use can be read.
    if __cpuid_count(0xd, 1).eax & (1 << 2) == 0 {
        return Err(XstateError::NoInUse);
    }
    let mask = enabled & !PKRU & !AMX;
    let end = |component: u32| {
        let leaf = __cpuid_count(0xd, component);
        leaf.ebx as usize + leaf.eax as usize
    };
    let bytes =
        (2..63).filter(|component| (mask | PKRU) & (1 << component) != 0).map(end).max().unwrap_or(576);
    if bytes > AREA_BYTES {
        return Err(XstateError::TooLarge { bytes });
    }
    let facts = Facts { mask, pkru_at: __cpuid_count(0xd, 9).ebx as usize, bytes };
    let vectors = if enabled & AVX512 == AVX512 { 2 } else { u64::from(enabled & AVX != 0) };
    // SAFETY: nothing else runs yet; see `Place`.
    unsafe { *FACTS.get() = facts };
    // SAFETY: as above.
    unsafe { (*CORE.get()).vectors = vectors };
    Ok(())
}

/// The components that guests have, PKRU left out.
pub(crate) fn mask() -> u64 {
    // SAFETY: written once, before the first guest.
    unsafe { (*FACTS.get()).mask }
}

/// Where the state of a thread lies that `enter` begins with.
static PARKED: Place<XsaveArea> = Place::new(XsaveArea::clean());

/// Puts a thread's state where the next full return finds it.
pub(crate) fn park(area: &XsaveArea) -> *const u8 {
    // SAFETY: no full return is on its way: the runtime decides who runs next.
    unsafe { PARKED.get().copy_from_nonoverlapping(area, 1) };
    PARKED.get().cast()
}

/// Whether x87 (and with it MMX) registers hold anything.
#[inline]
fn is_x87_used() -> bool {
    let (low, _high): (u32, u32);
    // SAFETY: `init_xstate` found that the register exists; reading it changes nothing.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 1, out("eax") low, out("edx") _high, options(nomem, nostack))
    };
    u64::from(low) & X87_IN_USE != 0
}

/// The kernel says of every frame that it has x87 registers, and whoever is resumed from it would have them in use from then
/// on: each hand-over would save and clean them. Those that are as new are none.
///
/// # Safety
/// As for [`pkru_of`].
pub(crate) unsafe fn forget_new_x87(area: *mut u8) {
    // SAFETY: the legacy part of an area has 512 bytes.
    let is_new = is_new_x87(unsafe { &*area.cast::<[u8; 512]>() });
    if is_new {
        let present = area.wrapping_add(HEADER_AT).cast::<u64>();
        // SAFETY: the header of an area in the standard format begins there.
        let components = unsafe { present.read_unaligned() };
        // SAFETY: as above; the frame is the runtime's.
        unsafe { present.write_unaligned(components & !X87_IN_USE) };
    }
}

/// An area of `FXSAVE`.
#[repr(C, align(16))]
pub(crate) struct X87([u8; 512]);

/// Takes the x87 registers away from the guest that has just left, if it used them: the next one must not see them. What is
/// as new need not be given back.
#[inline]
pub(crate) fn take_x87() -> Option<Box<X87>> {
    if is_x87_used() { swap_x87() } else { None }
}

#[cold]
fn swap_x87() -> Option<Box<X87>> {
    let mut area = X87([0; 512]);
    // SAFETY: the area is large enough and aligned; the registers stay as they are.
    unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) area.0.as_mut_ptr(), options(nostack)) };
    super::clean_x87();
    (!is_new_x87(&area.0)).then(|| Box::new(area))
}

/// Whether the legacy part of an area has x87 registers as a new process has them: all zeros but for the control word.
fn is_new_x87(area: &[u8; 512]) -> bool {
    /// Control word to data pointer, and the eight registers; between them lies what is not x87's.
    const PARTS: [core::ops::Range<usize>; 2] = [0..24, 32..160];
    PARTS.into_iter().all(|part| area.get(part.clone()) == CLEAN.0.get(part))
}

/// Every component in its initial state.
pub(crate) static CLEAN: XsaveArea = XsaveArea::clean();

/// Gives a guest its x87 registers back.
#[cold]
pub(crate) fn give_x87(area: &X87) {
    // SAFETY: an area that `FXSAVE` wrote. The vector registers that it also sets are named as lost.
    unsafe {
        core::arch::asm!(
            "fxrstor64 [{}]", in(reg) area.0.as_ptr(),
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, options(nostack)
        );
    };
}

/// PKRU as it was when a signal frame's area was written.
///
/// # Safety
/// `area` is the area of a frame that the kernel wrote.
pub(crate) unsafe fn pkru_of(area: *const u8) -> u32 {
    // SAFETY: written once, before the first guest.
    let facts = unsafe { *FACTS.get() };
    // SAFETY: the header of an area in the standard format begins there.
    let present = unsafe { area.wrapping_add(HEADER_AT).cast::<u64>().read_unaligned() };
    if present & PKRU == 0 {
        // In its initial state it is 0.
        return 0;
    }
    // SAFETY: the frame holds every component up to this one.
    unsafe { area.wrapping_add(facts.pkru_at).cast::<u32>().read_unaligned() }
}

/// A private copy of a signal frame's area.
///
/// # Safety
/// As for [`pkru_of`].
pub(crate) unsafe fn keep(area: *const u8, into: &mut XsaveArea) {
    // SAFETY: written once, before the first guest.
    let bytes = unsafe { (*FACTS.get()).bytes };
    // SAFETY: the frame is at least that large; `init_xstate` checked that it fits.
    unsafe { core::ptr::copy_nonoverlapping(area, into.0.as_mut_ptr(), bytes) };
}
