//! The machine: how control passes between the runtime and a guest, and nothing else.
//!
//! ```text
//!            enter(ctx)                                   gate (call through the gate page)
//!  runtime ─────────────▶ guest ──┬───────────────────────────────────▶ dispatch ──▶ guest again, or leave
//!     ▲                           └── syscall, fault, tick (signal) ──▶ on_trap ───▶ guest again, or leave
//!     └──────────────── leave: enter() returns with a code ◀──────────────────────────────┘
//! ```
//!
//! | way | PKRU | SUD selector | stack | FS |
//! |---|---|---|---|---|
//! | into the runtime by a gate | 0, value checked | must be *block*, becomes *allow* | the runtime's, as `enter` left it | the runtime's |
//! | into the runtime by a signal | 0, value checked | kept, becomes *allow* | must be the signal stack, below the first frame | the runtime's |
//! | back to a guest | the seat's, value checked | *block* | the guest's | the guest's |
//!
//! Every instruction here that changes PKRU is followed by a check of what it wrote, because a guest can jump anywhere
//! in executable memory: `wrpkru` by a comparison of its operand with a constant or with the shared block, which guests can
//! read and not write; `xrstor` by a test that its mask left PKRU out. Whoever fails a check meets `ud2`. (ERIM, USENIX
//! Security 2019, is where the idea of checked gates comes from.)
//!
//! **The signal stack** is taken away by each signal (`SS_AUTODISARM`) and given back on the way to a guest. So whatever stack
//! pointer a guest has, even one within the signal stack, the kernel writes the frame of its signal at one and the same
//! place, at the top. Without that a guest could have it write over frames, or fail and end the cell. Where a guest comes
//! from ([`Core::frame_at`]) is the only place where a frame is believed in, and each is spent once.
//!
//! A return to a guest never uses `rt_sigreturn`: a guest that could reach one with the selector at *allow* could set
//! PKRU from a forged frame. All registers are restored here, through a block that guests can read.

// UNSAFETY: switches stacks, keys and segment bases.
#![expect(unsafe_code, reason = "control transfer between the runtime and guests")]

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

mod copy;
pub(crate) mod label;
mod xstate;

pub(crate) use copy::{Plain, alone, copy, copy_line, copy_lines, copy_word, each, write_plain};
pub(crate) use xstate::{
    CLEAN, XsaveArea, forget_new_x87, give_x87, init_xstate, keep as keep_xsave, mask as xsave_mask,
    park as park_xsave, pkru_of, take_x87,
};

/// Bytes of the signal stack.
pub(crate) const SIGNAL_STACK_BYTES: usize = 256 * 1024;
/// Bytes of it that a handler needs at most, with those that interrupt it.
const HANDLER_BYTES: usize = SIGNAL_STACK_BYTES / 2;
/// The kernel takes the signal stack away while a handler runs on it.
const SS_AUTODISARM: i32 = i32::MIN;
/// PKRU as the kernel sets it for a signal handler: everything but key 0 closed.
pub(crate) const SIGNAL_PKRU: u32 = 0x5555_5554;
/// System calls trap.
pub(crate) const BLOCK: u8 = 1;
/// Status flags, direction, interrupts on: what a guest may have of the flags.
pub(crate) const FLAGS_MASK: u64 = 0xcd5;
/// Always set.
pub(crate) const FLAGS_FIXED: u64 = 0x202;

/// What guests can read: the selector of Syscall User Dispatch, and the last registers of a return.
#[repr(C, align(4096))]
pub(crate) struct ShareBlock {
    pub(crate) selector: u8,
    _gap: [u8; 63],
    /// Popped in this order by the last instructions of a full return.
    rax: u64,
    rdx: u64,
    rcx: u64,
    rflags: u64,
    rsp: u64,
    rip: u64,
    /// The rights of the guest that runs.
    pub(crate) pkru: u32,
    _pkru_gap: u32,
}

/// What only the runtime can reach.
#[repr(C, align(64))]
pub(crate) struct Core {
    /// The runtime's stack as `enter` left it.
    pub(crate) host_rsp: u64,
    /// The runtime's FS base.
    pub(crate) host_fs: u64,
    /// Of the seat that runs.
    pub(crate) context: *mut Context,
    /// A return into the runtime: as in [`ShareBlock`].
    rax: u64,
    rsp: u64,
    rip: u64,
    /// Vector registers to be cleared: 0 SSE only, 1 AVX, 2 AVX-512.
    pub(crate) vectors: u64,
    /// Set by every tick that interrupted the runtime.
    pub(crate) ticked: u64,
    /// Where the kernel writes a signal's frame unless a handler runs already; the end of the signal stack until that is
    /// known.
    pub(crate) frame_at: u64,
}

/// A guest between two runs, as a gate left it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Context {
    rbx: u64,
    rbp: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    pub(crate) rsp: u64,
    /// What the gate returns.
    pub(crate) rax: u64,
    pub(crate) fs: u64,
    pub(crate) pkru: u32,
    mxcsr: u32,
    /// Whether all registers are in [`GUEST_FULL`] (it is fresh, or was left by a trap); 0 if a gate left it.
    pub(crate) full: u64,
}

/// All registers of an interrupted or fresh thread.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Full {
    pub(crate) rax: u64,
    pub(crate) rbx: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) rbp: u64,
    pub(crate) rsp: u64,
    pub(crate) r8: u64,
    pub(crate) r9: u64,
    pub(crate) r10: u64,
    pub(crate) r11: u64,
    pub(crate) r12: u64,
    pub(crate) r13: u64,
    pub(crate) r14: u64,
    pub(crate) r15: u64,
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
    pub(crate) fs: u64,
    pub(crate) pkru: u32,
    pub(crate) selector: u32,
    /// An `XSAVE` area in the standard format.
    pub(crate) xsave: *const u8,
    /// The components to restore: never PKRU.
    pub(crate) mask: u64,
}

/// What a gate or a trap comes to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Verdict {
    /// The gate's result, or what `enter` returns.
    pub(crate) value: i64,
    /// 0: back to the guest. 1: `enter` returns. Traps only: 2, back into the runtime by [`HOST_FULL`], `value` saying
    /// whether no handler is left and the signal stack is free; 3, back into it by `rt_sigreturn`, `value` being the frame.
    pub(crate) leave: u64,
}

/// A static that the assembly and the one thread of a cell share.
#[repr(transparent)]
pub(crate) struct Place<T>(UnsafeCell<T>);

// SAFETY: a cell has one thread; signal handlers touch these places only as the table at the top says.
unsafe impl<T> Sync for Place<T> {}

impl<T> Place<T> {
    pub(crate) const fn new(value: T) -> Place<T> {
        Place(UnsafeCell::new(value))
    }

    pub(crate) const fn get(&self) -> *mut T {
        self.0.get()
    }
}

#[repr(C, align(4096))]
pub(crate) struct SignalStack([u8; SIGNAL_STACK_BYTES]);

pub(crate) static SHARE: Place<ShareBlock> = Place::new(ShareBlock {
    selector: 0,
    _gap: [0; 63],
    rax: 0,
    rdx: 0,
    rcx: 0,
    rflags: 0,
    rsp: 0,
    rip: 0,
    pkru: 0,
    _pkru_gap: 0,
});
pub(crate) static CORE: Place<Core> = Place::new(Core {
    host_rsp: 0,
    host_fs: 0,
    context: core::ptr::null_mut(),
    rax: 0,
    rsp: 0,
    rip: 0,
    vectors: 0,
    ticked: 0,
    frame_at: 0,
});
/// What the signal stack is to the kernel.
pub(crate) static ALTERNATE: Place<libc::stack_t> = Place::new(libc::stack_t {
    ss_sp: core::ptr::null_mut(),
    ss_flags: SS_AUTODISARM,
    ss_size: SIGNAL_STACK_BYTES,
});
pub(crate) static SIGNAL_STACK: Place<SignalStack> = Place::new(SignalStack([0; SIGNAL_STACK_BYTES]));
/// Where the handler leaves the registers of a guest to go back to.
pub(crate) static GUEST_FULL: Place<Full> = Place::new(Full::ZERO);
/// The same for the runtime, interrupted by a tick.
pub(crate) static HOST_FULL: Place<Full> = Place::new(Full::ZERO);

impl Full {
    pub(crate) const ZERO: Full = Full {
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rbp: 0,
        rsp: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: 0,
        rflags: FLAGS_FIXED,
        fs: 0,
        pkru: u32::MAX,
        selector: BLOCK as u32,
        xsave: core::ptr::null(),
        mask: 0,
    };
}

impl Context {
    pub(crate) const fn new(pkru: u32) -> Context {
        Context {
            rbx: 0,
            rbp: 0,
            r12: 0,
            r13: 0,
            r14: 0,
            r15: 0,
            rsp: 0,
            rax: 0,
            fs: 0,
            pkru,
            mxcsr: 0x1f80,
            full: 0,
        }
    }

    /// The registers as bytes. Rights are not among them: whoever brings them back sets its own.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let words = [
            self.rbx,
            self.rbp,
            self.r12,
            self.r13,
            self.r14,
            self.r15,
            self.rsp,
            self.fs,
            u64::from(self.mxcsr),
        ];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What [`Context::to_bytes`] gave; `None` if these are not its bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Context> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let &[rbx, rbp, r12, r13, r14, r15, rsp, fs, mxcsr] = words.as_slice() else { return None };
        // Bits of MXCSR that do not exist would fault when they are loaded.
        let mxcsr = u32::try_from(mxcsr).ok().filter(|mxcsr| mxcsr & !0xffff == 0)?;
        Some(Context { rbx, rbp, r12, r13, r14, r15, rsp, rax: 0, fs, pkru: u32::MAX, mxcsr, full: 0 })
    }

    /// The same, with the rights of a seat.
    pub(crate) const fn with_rights(self, pkru: u32) -> Context {
        Context { pkru, ..self }
    }

    /// The same, where a gate left it, with another FS base.
    pub(crate) const fn with_fs(self, fs: u64) -> Context {
        Context { fs, full: 0, ..self }
    }
}

const _: () = assert!(size_of::<ShareBlock>() == 4096);
// The entries below are written out one by one.
const _: () = assert!(baton_abi::gate::GATES == 13);

global_asm!(
    include_str!("arch/control.s"),
    violation = sym baton_violation,
    clean = sym xstate::CLEAN,
    none = const baton_abi::NONE,
    line = const baton_abi::gate::SMALL_BYTES,
    signal_pkru = const SIGNAL_PKRU,
    share = sym SHARE,
    core = sym CORE,
    stack = sym SIGNAL_STACK,
    handler_bytes = const HANDLER_BYTES,
    alternate = sym ALTERNATE,
    sigaltstack = const libc::SYS_sigaltstack,
    guest_full = sym GUEST_FULL,
    host_full = sym HOST_FULL,
    dispatch = sym crate::gates::baton_dispatch,
    on_trap = sym crate::trap::baton_on_trap,
    block = const BLOCK,
    selector = const offset_of!(ShareBlock, selector),
    share_pkru = const offset_of!(ShareBlock, pkru),
    s_rax = const offset_of!(ShareBlock, rax),
    s_rdx = const offset_of!(ShareBlock, rdx),
    s_rcx = const offset_of!(ShareBlock, rcx),
    s_rflags = const offset_of!(ShareBlock, rflags),
    s_rsp = const offset_of!(ShareBlock, rsp),
    s_rip = const offset_of!(ShareBlock, rip),
    core_host_rsp = const offset_of!(Core, host_rsp),
    core_host_fs = const offset_of!(Core, host_fs),
    core_context = const offset_of!(Core, context),
    core_vectors = const offset_of!(Core, vectors),
    core_frame_at = const offset_of!(Core, frame_at),
    h_rax = const offset_of!(Core, rax),
    h_rsp = const offset_of!(Core, rsp),
    h_rip = const offset_of!(Core, rip),
    c_rbx = const offset_of!(Context, rbx),
    c_rbp = const offset_of!(Context, rbp),
    c_r12 = const offset_of!(Context, r12),
    c_r13 = const offset_of!(Context, r13),
    c_r14 = const offset_of!(Context, r14),
    c_r15 = const offset_of!(Context, r15),
    c_rsp = const offset_of!(Context, rsp),
    c_rax = const offset_of!(Context, rax),
    c_fs = const offset_of!(Context, fs),
    c_pkru = const offset_of!(Context, pkru),
    c_mxcsr = const offset_of!(Context, mxcsr),
    c_full = const offset_of!(Context, full),
    f_rax = const offset_of!(Full, rax),
    f_rbx = const offset_of!(Full, rbx),
    f_rcx = const offset_of!(Full, rcx),
    f_rdx = const offset_of!(Full, rdx),
    f_rsi = const offset_of!(Full, rsi),
    f_rdi = const offset_of!(Full, rdi),
    f_rbp = const offset_of!(Full, rbp),
    f_rsp = const offset_of!(Full, rsp),
    f_r8 = const offset_of!(Full, r8),
    f_r9 = const offset_of!(Full, r9),
    f_r10 = const offset_of!(Full, r10),
    f_r11 = const offset_of!(Full, r11),
    f_r12 = const offset_of!(Full, r12),
    f_r13 = const offset_of!(Full, r13),
    f_r14 = const offset_of!(Full, r14),
    f_r15 = const offset_of!(Full, r15),
    f_rip = const offset_of!(Full, rip),
    f_rflags = const offset_of!(Full, rflags),
    f_fs = const offset_of!(Full, fs),
    f_pkru = const offset_of!(Full, pkru),
    f_selector = const offset_of!(Full, selector),
    f_xsave = const offset_of!(Full, xsave),
    f_mask = const offset_of!(Full, mask),
);

unsafe extern "C" {
    static baton_gates: u8;
    static baton_asm_begin: u8;
    static baton_asm_end: u8;
    static baton_resume_begin: u8;
    static baton_resume_end: u8;
    static baton_copy_end: u8;
    static baton_copy_failed: u8;
    fn baton_trap();
    static baton_trap_open: u8;
    fn baton_violation();
    fn baton_enter(context: *mut Context) -> i64;
    fn baton_clean_x87();
    fn baton_copy(to: *mut u8, from: *const u8, len: usize) -> u32;
    fn baton_copy_word(to: *mut u8, from: *const u8) -> u32;
    fn baton_copy_lines(to: *mut u8, from: *const u8, lines: usize) -> u32;
    fn baton_copy_line();
    fn baton_write_plain();
}

/// Forgets the registers of the last full return: guests can read the block that it went through.
pub(crate) fn forget_return() {
    let share = SHARE.get();
    for register in [
        // SAFETY: fields of a static; the one thread is here.
        unsafe { &raw mut (*share).rax },
        // SAFETY: as above.
        unsafe { &raw mut (*share).rdx },
        // SAFETY: as above.
        unsafe { &raw mut (*share).rcx },
        // SAFETY: as above.
        unsafe { &raw mut (*share).rflags },
        // SAFETY: as above.
        unsafe { &raw mut (*share).rsp },
        // SAFETY: as above.
        unsafe { &raw mut (*share).rip },
    ] {
        // SAFETY: as above.
        unsafe { register.write(0) };
    }
}

/// Whether a tick has interrupted the runtime since this was asked last.
#[inline]
pub(crate) fn take_tick() -> bool {
    // SAFETY: a field of a static.
    let place = unsafe { &raw mut (*CORE.get()).ticked };
    // SAFETY: handlers set it in one store; a tick that comes between this and the next line is found the next time.
    let ticked = unsafe { place.read_volatile() } != 0;
    if ticked {
        // SAFETY: as above.
        unsafe { place.write_volatile(0) };
    }
    ticked
}

/// The end of the signal stack.
fn signal_stack_end() -> u64 {
    SIGNAL_STACK.get() as u64 + SIGNAL_STACK_BYTES as u64
}

/// Where the kernel writes the frame of a signal that interrupts no handler; `None` until one has come.
pub(crate) fn first_frame() -> Option<u64> {
    // SAFETY: one thread, which is here.
    Some(unsafe { (*CORE.get()).frame_at }).filter(|at| *at != signal_stack_end())
}

/// Says where that is.
pub(crate) fn set_first_frame(at: u64) {
    // SAFETY: as above.
    unsafe { (*CORE.get()).frame_at = at };
}

/// Tells the kernel of the signal stack; any frame on it may be the first.
pub(crate) fn arm_signal_stack() -> Result<(), rustix::io::Errno> {
    // SAFETY: no signal has come yet, so that nobody else looks at the static.
    unsafe { (*ALTERNATE.get()).ss_sp = SIGNAL_STACK.get().cast() };
    let old: *mut libc::stack_t = core::ptr::null_mut();
    // SAFETY: the stack is a static of that size.
    let failed = unsafe { libc::sigaltstack(ALTERNATE.get(), old) } != 0;
    set_first_frame(signal_stack_end());
    if failed { Err(rustix::io::Errno::INVAL) } else { Ok(()) }
}

/// Runs the guest of `context` until it leaves; gives the code that it left with.
///
/// # Safety
/// `context` belongs to a mapped seat and is what [`CORE`] names as the current one; its registers were set by a gate, by a
/// trap or by the loader; the shared block holds its rights. No borrow of anything that gates or traps use is alive.
pub(crate) unsafe fn enter(context: *mut Context) -> i64 {
    let code: i64;
    // Not by a call: whoever leaves comes from a call of the guest's, and that is where the processor would expect it to go on. So
    // its expectations are as before when this is over, but for that one.
    // SAFETY: the caller's promise is the callee's, which leaves by the address that is pushed here and keeps what functions keep.
    unsafe {
        core::arch::asm!(
            "lea rax, [rip + 2f]",
            "push rax",
            "jmp {enter}",
            "2:",
            enter = sym baton_enter,
            inlateout("rdi") context => _,
            lateout("rax") code,
            clobber_abi("C"),
        );
    };
    code
}

/// Makes the x87 registers as new.
fn clean_x87() {
    // SAFETY: restores one component from a clean area; what the runtime holds is not in it.
    unsafe { baton_clean_x87() };
}
