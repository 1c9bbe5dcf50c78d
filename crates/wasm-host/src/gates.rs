//! Gates of the cell, passed on for the module: its offsets become addresses and back.

// UNSAFETY: calls the addresses of the gate page, and rewrites what gates wrote into the module's memory.
#![expect(unsafe_code, reason = "gates are functions that are known by their address only")]

use core::mem::MaybeUninit;

use baton_abi::cell::POOL_AT;
use baton_abi::gate::{
    ALLOC, AT_BATON, CALL, CANCEL, CLOCK, FREE, FREEZE, GATE_MAGIC, GatePage, Grant, KeptMap, LOG, NARROW,
    Parcel, RANDOM, RECV, REPLY, REVOKE, WAIT,
};
use baton_abi::wasm::{GATE, GROW, MODULE, OPEN, WINDOW_AT};
use baton_abi::{ABI_VERSION, Flags};
use wasmtime::{Caller, Engine, FuncType, Linker, ValRaw, ValType};

use crate::memory;

const ENOSYS: i64 = -(libc::ENOSYS as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
/// One behind the last offset of a module's memory and window.
const REACH: u64 = 1 << 32;
/// Bytes of a parcel.
const PARCEL: u64 = size_of::<Parcel>() as u64;
/// Where a parcel's payload begins in its buffer, or lies.
const BODY_OFFSET_AT: u64 = 32;

type Gate = extern "C" fn(u64, u64, u64) -> i64;

/// The gates of the cell.
#[derive(Clone, Copy)]
pub(crate) struct Gates {
    page: *const GatePage,
    base: u64,
}

/// Has modules import the gates. By raw values: to take them apart by their types, one by one, costs more than the gate's own work
/// here.
pub(crate) fn link(linker: &mut Linker<Gates>, engine: &Engine) -> wasmtime::Result<()> {
    let ty = FuncType::new(engine, [ValType::I32, ValType::I64, ValType::I64, ValType::I64], [ValType::I64]);
    // SAFETY: what is passed is read and given back as the type says.
    unsafe { linker.func_new_unchecked(MODULE, GATE, ty, passed) }?;
    Ok(())
}

/// The gate as an import: four values in, one out, in the place of the first.
fn passed(gates: Caller<'_, Gates>, values: &mut [MaybeUninit<ValRaw>]) -> wasmtime::Result<()> {
    let [first, a, b, c] = values else { wasmtime::bail!("a gate has four arguments") };
    // SAFETY: the engine passes every argument of the type that the import has.
    let number = unsafe { first.assume_init_ref() }.get_i32();
    // SAFETY: as above.
    let [a, b, c] = [a, b, c].map(|value| unsafe { value.assume_init_ref() }.get_u64());
    let result = match number {
        OPEN => memory::open_up_to(a),
        GROW => memory::grow(a, b),
        gate => gates.data().pass(usize::try_from(gate).unwrap_or(usize::MAX), [a, b, c]),
    };
    first.write(ValRaw::i64(result));
    Ok(())
}

impl Gates {
    /// The gates, if this program runs in a cell that speaks its version.
    pub(crate) fn find() -> Option<Gates> {
        // SAFETY: looks a number up in the auxiliary vector.
        let at = unsafe { libc::getauxval(AT_BATON) };
        let page = core::ptr::with_exposed_provenance::<GatePage>(usize::try_from(at).ok()?);
        // SAFETY: the runtime put the address there, and keeps the page for as long as this process lives.
        let head = unsafe { page.as_ref() }.map(|page| (page.magic, page.abi_version))?;
        (head == (GATE_MAGIC, ABI_VERSION)).then(|| Gates { page, base: memory::base() })
    }

    fn call(&self, number: usize, a: u64, b: u64, c: u64) -> i64 {
        let table = self.page.cast::<u8>().wrapping_add(core::mem::offset_of!(GatePage, gates)).cast::<u64>();
        // SAFETY: a word of the page, read anew each time: forks change it.
        let at = unsafe { table.wrapping_add(number).read_volatile() };
        let gate = core::ptr::with_exposed_provenance::<()>(usize::try_from(at).unwrap_or(0));
        // SAFETY: callers name gates that there are; an entry of them is the address of a function of this type.
        let gate = unsafe { core::mem::transmute::<*const (), Gate>(gate) };
        gate(a, b, c)
    }

    /// The address of `len` bytes at an offset.
    fn address(&self, offset: u64, len: u64) -> Option<u64> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= REACH);
        inside.then(|| self.base + offset)
    }

    /// Before the first receive: a module says by an offset where it notes what it only keeps for later. That becomes an address,
    /// or nothing where the module has no such memory.
    pub(crate) fn point_at_kept(&self, parcel: u64) {
        const BYTES: u64 = size_of::<KeptMap>() as u64;
        let word = self::word(self.base + parcel + core::mem::offset_of!(Parcel, kept_at) as u64);
        // SAFETY: a word of a parcel in the module's memory, which does not run now.
        let offset = unsafe { word.read_unaligned() };
        let is_inside = offset != 0 && offset.checked_add(BYTES).is_some_and(|end| end <= WINDOW_AT);
        // SAFETY: as above.
        unsafe { word.write_unaligned(if is_inside { self.base + offset } else { 0 }) };
    }

    /// Sends the answer in the parcel at the offset `answer`, if that is not 0, waits for the next event, and has it lie at an
    /// offset that is good for a parcel. Negative if the answer was refused, or there are no events.
    pub(crate) fn receive(&self, answer: u64, at: u64) -> i64 {
        let answer = match answer {
            0 => 0,
            offset => match self.address(offset, PARCEL) {
                Some(answer) => answer,
                None => return EFAULT,
            },
        };
        let offset = if answer == 0 { None } else { self.point_at_bytes(answer) };
        let got = self.call(RECV, answer, self.base + at, 0);
        self.put_offset_back(answer, offset);
        if got >= 0 {
            self.translate(self.base + at);
        }
        got
    }

    /// Passes through a gate for the module.
    pub(crate) fn pass(&self, number: usize, [a, b, c]: [u64; 3]) -> i64 {
        let at = |offset: u64, len: u64| self.address(offset, len);
        let passed = match number {
            CALL => at(b, PARCEL).map(|at| {
                let offset = self.point_at_bytes(at);
                let called = self.call(CALL, a, at, 0);
                match called {
                    0 => self.translate(at),
                    _ => self.put_offset_back(at, offset),
                }
                called
            }),
            WAIT => at(b, PARCEL).map(|at| {
                let waited = self.call(WAIT, a, at, 0);
                if waited == 0 {
                    self.translate(at);
                }
                waited
            }),
            REPLY => at(a, PARCEL).map(|at| {
                let offset = self.point_at_bytes(at);
                let replied = self.call(REPLY, at, 0, 0);
                self.put_offset_back(at, offset);
                replied
            }),
            ALLOC => at(c, b.saturating_mul(size_of::<Grant>() as u64)).map(|at| {
                let got = self.call(ALLOC, a, b, at);
                self.translate_grants(at, got);
                got
            }),
            FREE => at(a, b.saturating_mul(8)).map(|at| self.call(FREE, at, b, 0)),
            FREEZE | REVOKE => at(a, 8).map(|at| self.call(number, at, 0, 0)),
            NARROW => at(a, 8).map(|at| self.call(NARROW, at, b, c)),
            CANCEL => Some(self.call(CANCEL, a, 0, 0)),
            LOG => at(b, c).map(|at| self.call(LOG, a, at, c)),
            CLOCK => at(b, 16).map(|at| self.call(CLOCK, a, at, 0)),
            RANDOM => at(a, b).map(|at| self.call(RANDOM, at, b, 0)),
            _ => Some(ENOSYS),
        };
        passed.unwrap_or(EFAULT)
    }

    /// A parcel of plain bytes says by an offset where they lie: that becomes an address, in the pool's own place if they lie in
    /// the window. Gives the offset, if there was one.
    fn point_at_bytes(&self, parcel: u64) -> Option<u64> {
        // SAFETY: the first word of a parcel in the module's memory, which does not run now. Where there is no memory this faults,
        // as the module itself would.
        let [_, flags, ..] = unsafe { word(parcel).read_unaligned() }.to_le_bytes();
        if flags & Flags::BYTES.0 == 0 {
            return None;
        }
        // SAFETY: as above.
        let named = unsafe { word(parcel + BODY_OFFSET_AT).read_unaligned() };
        let offset = named & (REACH - 1);
        let at = if offset >= WINDOW_AT { POOL_AT + (offset - WINDOW_AT) } else { self.base + offset };
        // SAFETY: as above.
        unsafe { word(parcel + BODY_OFFSET_AT).write_unaligned(at) };
        Some(named)
    }

    /// A parcel that brought no answer is the module's as it was: no address is left in it.
    fn put_offset_back(&self, parcel: u64, offset: Option<u64>) {
        if let Some(offset) = offset {
            // SAFETY: a word of the module's memory that was read and written before. The module does not run now.
            unsafe { word(parcel + BODY_OFFSET_AT).write_unaligned(offset) };
        }
    }

    /// Makes offsets of a parcel's addresses.
    fn translate(&self, parcel: u64) {
        for field in [core::mem::offset_of!(Parcel, body_base), core::mem::offset_of!(Parcel, head_base)] {
            self.turn_into_offset(parcel + field as u64);
        }
    }

    fn translate_grants(&self, at: u64, count: i64) {
        for nth in 0..u64::try_from(count).unwrap_or(0) {
            let base = nth * size_of::<Grant>() as u64 + core::mem::offset_of!(Grant, base) as u64;
            self.turn_into_offset(at + base);
        }
    }

    /// The address in a word becomes an offset: of the pool's window, or of the module's own part of the seat.
    fn turn_into_offset(&self, word: u64) {
        let word = self::word(word);
        // SAFETY: a word of the module's memory that a gate has just written. The module does not run now.
        let at = unsafe { word.read_unaligned() };
        let offset = match at {
            0 => 0,
            at if at >= POOL_AT => WINDOW_AT.saturating_add(at - POOL_AT),
            at => at.saturating_sub(self.base),
        };
        // SAFETY: as above.
        unsafe { word.write_unaligned(offset) };
    }
}

/// A word of this program's memory.
fn word(at: u64) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(usize::try_from(at).unwrap_or(0))
}

// SAFETY: an address; this program has one thread.
unsafe impl Send for Gates {}
// SAFETY: as above.
unsafe impl Sync for Gates {}
