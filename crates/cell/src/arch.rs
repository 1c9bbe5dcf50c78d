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
//! | into the runtime by a signal | 0, value checked | kept, becomes *allow* | must be the signal stack | the runtime's |
//! | back to a guest | the seat's, value checked | *block* | the guest's | the guest's |
//!
//! Every instruction here that changes PKRU is followed by a check of what it wrote, because a guest can jump anywhere
//! in executable memory: `wrpkru` by a comparison of its operand with a constant or with the shared block, which guests can
//! read and not write; `xrstor` by a test that its mask left PKRU out. Whoever fails a check meets `ud2`. (ERIM, USENIX
//! Security 2019, is where the idea of checked gates comes from.)
//!
//! A return to a guest never uses `rt_sigreturn`: a guest that could reach one with the selector at *allow* could set
//! PKRU from a forged frame. All registers are restored here, through a block that guests can read.

// UNSAFETY: switches stacks, keys and segment bases.
#![expect(unsafe_code, reason = "control transfer between the runtime and guests")]

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

mod xstate;

pub(crate) use xstate::{
    XsaveArea, init_xstate, keep as keep_xsave, mask as xsave_mask, park as park_xsave, pkru_of,
};

/// Bytes of the signal stack.
pub(crate) const SIGNAL_STACK_BYTES: usize = 256 * 1024;
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
    /// 0: back to the guest. 1: `enter` returns. Traps only: 2, back into the runtime by [`HOST_FULL`]; 3, back into it by
    /// `rt_sigreturn`, `value` being the frame.
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
    ".text",
    ".balign 4096",
    ".globl baton_asm_begin",
    "baton_asm_begin:",
    // ---- gates: one entry each, 16 bytes apart -------------------------------------------------------------------
    ".balign 16",
    ".globl baton_gates",
    "baton_gates:",
    ".balign 16",
    "mov r9d, 0",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 1",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 2",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 3",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 4",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 5",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 6",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 7",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 8",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 9",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 10",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 11",
    "jmp 10f",
    ".balign 16",
    "mov r9d, 12",
    "jmp 10f",
    ".balign 16",
    "10:",
    "mov r8, rdx",
    "xor eax, eax",
    "xor ecx, ecx",
    "xor edx, edx",
    "wrpkru",
    "test eax, eax",
    "jnz {violation}",
    "cmp byte ptr [rip + {share} + {selector}], {block}",
    "jne {violation}",
    "mov byte ptr [rip + {share} + {selector}], 0",
    "mov r10, [rip + {core} + {core_context}]",
    "mov [r10 + {c_rsp}], rsp",
    "mov rsp, [rip + {core} + {core_host_rsp}]",
    // A guest may have set the direction, alignment or trap flag: the runtime must not run with them.
    "pushfq",
    "pop rax",
    "test eax, 0x44500",
    "jz 11f",
    "push 0x202",
    "popfq",
    "11:",
    "mov [r10 + {c_rbx}], rbx",
    "mov [r10 + {c_rbp}], rbp",
    "mov [r10 + {c_r12}], r12",
    "mov [r10 + {c_r13}], r13",
    "mov [r10 + {c_r14}], r14",
    "mov [r10 + {c_r15}], r15",
    "mov qword ptr [r10 + {c_full}], 0",
    "stmxcsr [r10 + {c_mxcsr}]",
    "mov rax, [rip + {core} + {core_host_fs}]",
    "wrfsbase rax",
    "mov rdx, r8",
    "mov ecx, r9d",
    "xor ebp, ebp",
    "call {dispatch}",
    "test edx, edx",
    "jnz 30f",
    "mov r10, [rip + {core} + {core_context}]",
    "mov [r10 + {c_rax}], rax",
    // ---- back to a guest that a gate left (r10: its context) -----------------------------------------------------
    "20:",
    "mov rax, [r10 + {c_fs}]",
    "wrfsbase rax",
    "cmp qword ptr [rip + {core} + {core_vectors}], 1",
    "jb 22f",
    "vzeroall",
    "je 23f",
    "vpxorq zmm16, zmm16, zmm16",
    "vpxorq zmm17, zmm17, zmm17",
    "vpxorq zmm18, zmm18, zmm18",
    "vpxorq zmm19, zmm19, zmm19",
    "vpxorq zmm20, zmm20, zmm20",
    "vpxorq zmm21, zmm21, zmm21",
    "vpxorq zmm22, zmm22, zmm22",
    "vpxorq zmm23, zmm23, zmm23",
    "vpxorq zmm24, zmm24, zmm24",
    "vpxorq zmm25, zmm25, zmm25",
    "vpxorq zmm26, zmm26, zmm26",
    "vpxorq zmm27, zmm27, zmm27",
    "vpxorq zmm28, zmm28, zmm28",
    "vpxorq zmm29, zmm29, zmm29",
    "vpxorq zmm30, zmm30, zmm30",
    "vpxorq zmm31, zmm31, zmm31",
    "kxorw k0, k0, k0",
    "kxorw k1, k1, k1",
    "kxorw k2, k2, k2",
    "kxorw k3, k3, k3",
    "kxorw k4, k4, k4",
    "kxorw k5, k5, k5",
    "kxorw k6, k6, k6",
    "kxorw k7, k7, k7",
    "jmp 23f",
    "22:",
    "xorps xmm0, xmm0",
    "xorps xmm1, xmm1",
    "xorps xmm2, xmm2",
    "xorps xmm3, xmm3",
    "xorps xmm4, xmm4",
    "xorps xmm5, xmm5",
    "xorps xmm6, xmm6",
    "xorps xmm7, xmm7",
    "xorps xmm8, xmm8",
    "xorps xmm9, xmm9",
    "xorps xmm10, xmm10",
    "xorps xmm11, xmm11",
    "xorps xmm12, xmm12",
    "xorps xmm13, xmm13",
    "xorps xmm14, xmm14",
    "xorps xmm15, xmm15",
    "23:",
    "ldmxcsr [r10 + {c_mxcsr}]",
    "mov rbx, [r10 + {c_rbx}]",
    "mov rbp, [r10 + {c_rbp}]",
    "mov r12, [r10 + {c_r12}]",
    "mov r13, [r10 + {c_r13}]",
    "mov r14, [r10 + {c_r14}]",
    "mov r15, [r10 + {c_r15}]",
    "mov r8, [r10 + {c_rax}]",
    "mov rsp, [r10 + {c_rsp}]",
    "mov eax, [r10 + {c_pkru}]",
    "mov byte ptr [rip + {share} + {selector}], {block}",
    "xor ecx, ecx",
    "xor edx, edx",
    "wrpkru",
    "cmp eax, dword ptr [rip + {share} + {share_pkru}]",
    "jne {violation}",
    "mov rax, r8",
    "xor esi, esi",
    "xor edi, edi",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "xor r11d, r11d",
    "ret",
    // ---- enter(context: rdi) -------------------------------------------------------------------------------------
    ".balign 16",
    ".globl baton_enter",
    "baton_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "mov [rip + {core} + {core_host_rsp}], rsp",
    "mov r10, rdi",
    "mov r15, [r10 + {c_full}]",
    "test r15, r15",
    "jz 20b",
    "jmp 40f",
    // ---- leave: enter returns rax --------------------------------------------------------------------------------
    "30:",
    "mov rsp, [rip + {core} + {core_host_rsp}]",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // ---- signals -------------------------------------------------------------------------------------------------
    ".balign 16",
    ".globl baton_trap",
    "baton_trap:",
    // The kernel comes here with rights that no guest has: everything but key 0 closed. A tick that came between a signal
    // and these instructions comes back with the runtime's. A guest that jumps here has its own.
    "xor ecx, ecx",
    "rdpkru",
    "test eax, eax",
    "jz 39f",
    "cmp eax, {signal_pkru}",
    "jne {violation}",
    "39:",
    "xor eax, eax",
    "xor ecx, ecx",
    "xor edx, edx",
    "wrpkru",
    ".globl baton_trap_open",
    "baton_trap_open:",
    "test eax, eax",
    "jnz {violation}",
    "mov rsi, rsp",
    "lea rax, [rip + {stack}]",
    "cmp rsi, rax",
    "jb {violation}",
    "add rax, {stack_bytes}",
    "cmp rsi, rax",
    "jae {violation}",
    "push 0x202",
    "popfq",
    "movzx edx, byte ptr [rip + {share} + {selector}]",
    "mov byte ptr [rip + {share} + {selector}], 0",
    "rdfsbase rcx",
    "mov rax, [rip + {core} + {core_host_fs}]",
    "wrfsbase rax",
    "and rsp, -16",
    "xor ebp, ebp",
    "call {on_trap}",
    "cmp edx, 1",
    "je 30b",
    "ja 50f",
    // ---- back to a guest with all its registers (r15: a Full) ----------------------------------------------------
    "40:",
    "lea r15, [rip + {guest_full}]",
    "mov rcx, [r15 + {f_xsave}]",
    "mov rax, [r15 + {f_mask}]",
    "mov rdx, rax",
    "shr rdx, 32",
    "xrstor64 [rcx]",
    "test eax, 0x200",
    "jnz {violation}",
    "mov rax, [r15 + {f_fs}]",
    "wrfsbase rax",
    ".globl baton_resume_begin",
    "baton_resume_begin:",
    "mov rax, [r15 + {f_rax}]",
    "mov [rip + {share} + {s_rax}], rax",
    "mov rax, [r15 + {f_rdx}]",
    "mov [rip + {share} + {s_rdx}], rax",
    "mov rax, [r15 + {f_rcx}]",
    "mov [rip + {share} + {s_rcx}], rax",
    "mov rax, [r15 + {f_rflags}]",
    "mov [rip + {share} + {s_rflags}], rax",
    "mov rax, [r15 + {f_rsp}]",
    "mov [rip + {share} + {s_rsp}], rax",
    "mov rax, [r15 + {f_rip}]",
    "mov [rip + {share} + {s_rip}], rax",
    "mov rbx, [r15 + {f_rbx}]",
    "mov rsi, [r15 + {f_rsi}]",
    "mov rdi, [r15 + {f_rdi}]",
    "mov rbp, [r15 + {f_rbp}]",
    "mov r8, [r15 + {f_r8}]",
    "mov r9, [r15 + {f_r9}]",
    "mov r10, [r15 + {f_r10}]",
    "mov r11, [r15 + {f_r11}]",
    "mov r12, [r15 + {f_r12}]",
    "mov r13, [r15 + {f_r13}]",
    "mov r14, [r15 + {f_r14}]",
    "mov eax, [r15 + {f_pkru}]",
    "mov r15, [r15 + {f_r15}]",
    "mov byte ptr [rip + {share} + {selector}], {block}",
    "xor ecx, ecx",
    "xor edx, edx",
    "wrpkru",
    "cmp eax, dword ptr [rip + {share} + {share_pkru}]",
    "jne {violation}",
    "lea rsp, [rip + {share} + {s_rax}]",
    "pop rax",
    "pop rdx",
    "pop rcx",
    "popfq",
    "mov rsp, [rip + {share} + {s_rsp}]",
    "jmp qword ptr [rip + {share} + {s_rip}]",
    ".globl baton_resume_end",
    "baton_resume_end:",
    // ---- back into the runtime after a tick: PKRU is 0 and stays so -----------------------------------------------
    "50:",
    "cmp edx, 3",
    "je 55f",
    "lea r15, [rip + {host_full}]",
    "mov rcx, [r15 + {f_xsave}]",
    "mov rax, [r15 + {f_mask}]",
    "mov rdx, rax",
    "shr rdx, 32",
    "xrstor64 [rcx]",
    "test eax, 0x200",
    "jnz {violation}",
    "mov rax, [r15 + {f_fs}]",
    "wrfsbase rax",
    "mov rax, [r15 + {f_rax}]",
    "mov [rip + {core} + {h_rax}], rax",
    "mov rax, [r15 + {f_rsp}]",
    "mov [rip + {core} + {h_rsp}], rax",
    "mov rax, [r15 + {f_rip}]",
    "mov [rip + {core} + {h_rip}], rax",
    "mov rbx, [r15 + {f_rbx}]",
    "mov rcx, [r15 + {f_rcx}]",
    "mov rdx, [r15 + {f_rdx}]",
    "mov rsi, [r15 + {f_rsi}]",
    "mov rdi, [r15 + {f_rdi}]",
    "mov rbp, [r15 + {f_rbp}]",
    "mov r8, [r15 + {f_r8}]",
    "mov r9, [r15 + {f_r9}]",
    "mov r10, [r15 + {f_r10}]",
    "mov r11, [r15 + {f_r11}]",
    "mov r12, [r15 + {f_r12}]",
    "mov r13, [r15 + {f_r13}]",
    "mov r14, [r15 + {f_r14}]",
    "mov al, byte ptr [r15 + {f_selector}]",
    "mov byte ptr [rip + {share} + {selector}], al",
    "lea rsp, [r15 + {f_rflags}]",
    "popfq",
    "mov rsp, [rip + {core} + {h_rsp}]",
    "mov r15, [r15 + {f_r15}]",
    "mov rax, [rip + {core} + {h_rax}]",
    "jmp qword ptr [rip + {core} + {h_rip}]",
    // The usual case, the selector being at *allow*: the kernel's own way back. A guest that jumps here traps.
    "55:",
    "lea rsp, [rax + 8]",
    "mov eax, 15",
    "syscall",
    "ud2",
    // ---- whoever comes here lied about a key ----------------------------------------------------------------------
    ".balign 16",
    ".globl baton_violation",
    "baton_violation:",
    "ud2",
    // ---- copies that may meet a page that is not there: copy(to: rdi, from: rsi, len: rdx) ------------------------
    ".balign 16",
    ".globl baton_copy",
    "baton_copy:",
    "xor eax, eax",
    "cmp rdx, 512",
    "ja 62f",
    // Eight bytes at a time: what was just written in words is read from the store buffer; wider loads would wait for it.
    "60:",
    "cmp rdx, 32",
    "jb 64f",
    "mov rcx, [rsi]",
    "mov r8, [rsi + 8]",
    "mov r9, [rsi + 16]",
    "mov r10, [rsi + 24]",
    "mov [rdi], rcx",
    "mov [rdi + 8], r8",
    "mov [rdi + 16], r9",
    "mov [rdi + 24], r10",
    "add rsi, 32",
    "add rdi, 32",
    "sub rdx, 32",
    "jmp 60b",
    "64:",
    "cmp rdx, 8",
    "jb 61f",
    "mov rcx, [rsi]",
    "mov [rdi], rcx",
    "add rsi, 8",
    "add rdi, 8",
    "sub rdx, 8",
    "jmp 64b",
    "61:",
    "test edx, edx",
    "jz 63f",
    "mov cl, [rsi]",
    "mov [rdi], cl",
    "inc rsi",
    "inc rdi",
    "dec edx",
    "jmp 61b",
    "62:",
    "mov rcx, rdx",
    "rep movsb",
    "63:",
    ".globl baton_copy_end",
    "baton_copy_end:",
    "ret",
    ".globl baton_copy_failed",
    "baton_copy_failed:",
    "mov eax, 1",
    "ret",
    ".globl baton_asm_end",
    "baton_asm_end:",
    violation = sym baton_violation,
    signal_pkru = const SIGNAL_PKRU,
    share = sym SHARE,
    core = sym CORE,
    stack = sym SIGNAL_STACK,
    stack_bytes = const SIGNAL_STACK_BYTES,
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
    fn baton_copy(to: *mut u8, from: *const u8, len: usize) -> u32;
}

/// Addresses in the assembly above.
pub(crate) mod label {
    use super::*;

    fn of(label: *const u8) -> u64 {
        label as u64
    }

    /// The entry of gate `number`.
    pub(crate) fn gate(number: usize) -> u64 {
        of(&raw const baton_gates) + 16 * number as u64
    }

    /// The handler of all signals.
    pub(crate) fn trap() -> u64 {
        baton_trap as *const () as u64
    }

    /// Whether a signal's handler has not taken its rights yet.
    pub(crate) fn in_trap_entry(rip: u64) -> bool {
        (trap()..of(&raw const baton_trap_open)).contains(&rip)
    }

    /// Where failed checks end.
    pub(crate) fn violation() -> u64 {
        baton_violation as *const () as u64
    }

    /// Whether a full return was interrupted half-way.
    pub(crate) fn in_resume(rip: u64) -> bool {
        (of(&raw const baton_resume_begin)..of(&raw const baton_resume_end)).contains(&rip)
    }

    /// Whether a copy was interrupted.
    pub(crate) fn in_copy(rip: u64) -> bool {
        (baton_copy as *const () as u64..of(&raw const baton_copy_end)).contains(&rip)
    }

    /// Where a failed copy goes on.
    pub(crate) fn copy_failed() -> u64 {
        of(&raw const baton_copy_failed)
    }

    /// The range of the assembly: the only place in the runtime's text where key-changing instructions may be.
    pub(crate) fn range() -> core::ops::Range<u64> {
        of(&raw const baton_asm_begin)..of(&raw const baton_asm_end)
    }
}

/// Runs the guest of `context` until it leaves; gives the code that it left with.
///
/// # Safety
/// `context` belongs to a mapped seat and is what [`CORE`] names as the current one; its registers were set by a gate, by a
/// trap or by the loader; the shared block holds its rights. No borrow of anything that gates or traps use is alive.
pub(crate) unsafe fn enter(context: *mut Context) -> i64 {
    // SAFETY: the caller's promise is the callee's.
    unsafe { baton_enter(context) }
}

/// Copies `len` bytes; `false` if a page of either side is not accessible, after which a part may have been copied.
///
/// # Safety
/// `to` must be memory that may be overwritten: of a guest's seat, or exclusive memory of the runtime.
pub(crate) unsafe fn copy(to: u64, from: u64, len: usize) -> bool {
    // SAFETY: the caller vouches for `to`; a fault on either side ends in the failure label.
    unsafe { baton_copy(to as *mut u8, from as *const u8, len) == 0 }
}
