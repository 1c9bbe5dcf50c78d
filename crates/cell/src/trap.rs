//! Signals: trapped system calls, faults of guests, and the tick.
//!
//! Whose they are follows from PKRU in the signal's frame: 0 is the runtime, anything else a guest. While a guest runs the
//! selector says so, and the one frame that counts is that at the top of the signal stack, wherever the handler's stack
//! pointer points; it is spent once it was looked at. A guest that jumps here finds an old frame, and ends.

// UNSAFETY: reads and writes signal frames.
#![expect(unsafe_code, reason = "signal frames are raw memory that the kernel wrote")]

use crate::arch::{self, CORE, Full, GUEST_FULL, HOST_FULL, Verdict, label};
use crate::effects::Effects;
use crate::gates::{leave, stay};
use crate::guest::{LEFT_END, LEFT_IDLE};
use crate::os::{Outcome, Resume};
use crate::runtime::{Runtime, runtime};
use crate::seat::{End, Seat};
use crate::space::WriteFault;
use crate::sys;
use crate::threads::{Saved, Trapped};

/// Bytes of the kernel's `ucontext` in front of `siginfo`.
const UCONTEXT_BYTES: u64 = 304;
/// From the frame's start (a return address) to `sigcontext`.
const SIGCONTEXT_AT: u64 = 8 + 40;
const SIGINFO_AT: u64 = 8 + UCONTEXT_BYTES;
/// `si_code` of a call that Syscall User Dispatch caught.
const SYS_USER_DISPATCH: i32 = 2;
/// Write bit of a page fault's error code.
const PF_WRITE: u64 = 2;
/// The guest's flags that say what happened.
const SPENT: i32 = 0;

/// A frame that the kernel has just written.
#[derive(Clone, Copy)]
struct Frame(u64);

impl Frame {
    fn word(self, at: u64) -> u64 {
        // SAFETY: the frame lies on the signal stack, checked by the assembly, and is larger than any offset used here.
        unsafe { ((self.0 + at) as *const u64).read() }
    }

    fn int(self, at: u64) -> i32 {
        // SAFETY: as in `word`.
        unsafe { ((self.0 + at) as *const i32).read() }
    }

    fn register(self, nth: u64) -> u64 {
        self.word(SIGCONTEXT_AT + nth * 8)
    }

    fn set_register(self, nth: u64, value: u64) {
        // SAFETY: as in `word`; the frame is this handler's.
        unsafe { ((self.0 + SIGCONTEXT_AT + nth * 8) as *mut u64).write(value) };
    }

    fn signal(self) -> i32 {
        self.int(SIGINFO_AT)
    }

    fn code(self) -> i32 {
        self.int(SIGINFO_AT + 8)
    }

    fn address(self) -> u64 {
        self.word(SIGINFO_AT + 16)
    }

    fn call(self) -> u64 {
        u64::from(self.int(SIGINFO_AT + 24).cast_unsigned())
    }

    fn xsave(self) -> *const u8 {
        self.register(23) as *const u8
    }

    fn rip(self) -> u64 {
        self.register(16)
    }

    fn spend(self) {
        // SAFETY: as in `set_register`.
        unsafe { ((self.0 + SIGINFO_AT) as *mut i32).write(SPENT) };
    }

    /// All registers. `fs` and `selector` are not in the frame.
    fn full(self, fs: u64, pkru: u32, selector: u32) -> Full {
        let r = |nth| self.register(nth);
        // SAFETY: the kernel wrote this frame's area, in memory of the runtime's.
        unsafe { arch::forget_new_x87(self.xsave().cast_mut()) };
        Full {
            r8: r(0),
            r9: r(1),
            r10: r(2),
            r11: r(3),
            r12: r(4),
            r13: r(5),
            r14: r(6),
            r15: r(7),
            rdi: r(8),
            rsi: r(9),
            rbp: r(10),
            rbx: r(11),
            rdx: r(12),
            rax: r(13),
            rcx: r(14),
            rsp: r(15),
            rip: r(16),
            rflags: r(17),
            fs,
            pkru,
            selector,
            xsave: self.xsave(),
            mask: arch::xsave_mask(),
        }
    }
}

const BACK: Verdict = stay(0);

/// Every signal comes here, on the signal stack, with the runtime's rights.
pub(crate) extern "C" fn baton_on_trap(frame: u64, selector: u64, fs: u64) -> Verdict {
    let selector = u32::try_from(selector).unwrap_or(0);
    let Some(first) = arch::first_frame() else { return first_of_all(Frame(frame)) };
    // Beside the first frame there is another one if a tick came before the handler's first instructions: it can wait. A
    // frame elsewhere is one that a guest made up.
    let frame = Frame(if selector == u32::from(arch::BLOCK) { first } else { frame });
    let signal = frame.signal();
    if signal == SPENT {
        // Nobody raised it: a guest jumped here.
        return violated();
    }
    // SAFETY: the kernel wrote this frame's area.
    let pkru = unsafe { arch::pkru_of(frame.xsave()) };
    // Two signals at once: the second finds the handler of the first before its first instructions. And until a guest has run,
    // the runtime has the rights that the kernel gave it, key by key.
    let in_entry = || pkru == arch::SIGNAL_PKRU && label::in_trap_entry(frame.rip());
    let is_ours = pkru == 0 || in_entry() || runtime().current().is_none();
    if is_ours {
        return in_runtime(signal, frame, fs, selector);
    }
    let runtime = runtime();
    let Some(seat) = runtime.current() else { std::process::abort() };
    if label::in_resume(frame.rip()) && signal == sys::TICK && runtime.is_returned.get() {
        // A tick half-way through a return: the return begins anew, from what it was given.
        frame.spend();
        return BACK;
    }
    let full = frame.full(seat.registers().fs, seat.facts.pkru, u32::from(arch::BLOCK));
    let verdict = match signal {
        libc::SIGSYS if frame.code() == SYS_USER_DISPATCH => runtime.on_call(seat, frame.call(), &full),
        sys::TICK => runtime.on_tick(seat, &full),
        libc::SIGSEGV if frame.register(19) & PF_WRITE != 0 => runtime.on_write(seat, frame, &full),
        _ => runtime.on_fault(seat, frame, &full),
    };
    frame.spend();
    if verdict.leave == 0 {
        return runtime.on_late_tick(seat, verdict);
    }
    verdict
}

/// The runtime's own signal before any guest: it shows where frames go.
fn first_of_all(frame: Frame) -> Verdict {
    arch::set_first_frame(frame.0);
    frame.spend();
    back_by_kernel(frame)
}

fn back_by_kernel(frame: Frame) -> Verdict {
    Verdict { value: frame.0.cast_signed(), leave: 3 }
}

/// The guest jumped where it should not.
fn violated() -> Verdict {
    match runtime().current() {
        Some(seat) => end(seat, End::Violation),
        None => std::process::abort(),
    }
}

/// The runtime itself was interrupted.
fn in_runtime(signal: i32, frame: Frame, fs: u64, selector: u32) -> Verdict {
    let rip = frame.rip();
    let is_tick = signal == sys::TICK;
    if rip == label::violation() || selector == u32::from(arch::BLOCK) && !is_tick {
        // A guest jumped at an instruction that gives rights, and met the check behind it.
        frame.spend();
        return violated();
    }
    if is_tick {
        frame.spend();
        // SAFETY: this thread is the only one.
        unsafe { (*CORE.get()).ticked = 1 };
        // SAFETY: as above.
        let own_fs = unsafe { (*CORE.get()).host_fs };
        // The kernel's way back does not know of FS: it is for code that has the runtime's, not for the last steps to a guest.
        if selector == 0 && fs == own_fs {
            return back_by_kernel(frame);
        }
    } else if label::in_copy(rip) && matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
        frame.set_register(16, label::copy_failed());
        frame.spend();
    } else {
        die(frame, "the cell's runtime is broken");
    }
    // SAFETY: no other return into the runtime is on its way.
    unsafe { *HOST_FULL.get() = frame.full(fs, 0, selector) };
    Verdict { value: i64::from(arch::first_frame() == Some(frame.0)), leave: 2 }
}

fn die(frame: Frame, why: &str) -> ! {
    eprintln!(
        "{why}: signal {}, code {}, address {:#x}, at {:#x} ({:#x} from the gates)",
        frame.signal(),
        frame.code(),
        frame.address(),
        frame.rip(),
        frame.rip().wrapping_sub(label::gate(0)),
    );
    std::process::abort()
}

pub(crate) fn end(seat: &Seat, how: End) -> Verdict {
    seat.end.set(Some(how));
    leave(LEFT_END)
}

impl Runtime {
    /// Sets the registers that the guest goes on with.
    fn go_on(&self, full: Full) -> Verdict {
        self.is_returned.set(true);
        // SAFETY: no other return to a guest is on its way.
        unsafe { *GUEST_FULL.get() = full.tamed() };
        BACK
    }

    fn on_call(&self, seat: &Seat, number: u64, full: &Full) -> Verdict {
        let args = [full.rdi, full.rsi, full.rdx, full.r10, full.r8, full.r9];
        let outcome = {
            let mut os = seat.os.borrow_mut();
            let Some(os) = os.as_mut() else { return end(seat, End::Violation) };
            os.call(&mut Effects::new(self, seat), number, args)
        };
        // As the processor leaves them after a system call.
        let mut full = Full { rcx: full.rip, r11: full.rflags, ..*full };
        self.act(seat, outcome, &mut full)
    }

    /// Does what the library OS says.
    fn act(&self, seat: &Seat, outcome: Outcome, full: &mut Full) -> Verdict {
        full.fs = seat.registers().fs;
        match outcome {
            Outcome::Return(value) => self.go_on(Full { rax: value.cast_unsigned(), ..*full }),
            Outcome::Spawned(new, value) => {
                let child = Full { rsp: new.stack, rax: 0, ..*full };
                seat.threads.borrow_mut().save(new.thread, trapped(&child));
                self.go_on(Full { rax: value.cast_unsigned(), ..*full })
            }
            Outcome::Switch(resume) => self.switch(seat, resume, full),
            Outcome::Idle { until_ns } => self.set_aside(seat, full, until_ns),
            Outcome::End(ending) => end(seat, End::from(ending)),
        }
    }

    /// Keeps the registers of the thread that was interrupted, under the name that it had.
    fn keep(&self, seat: &Seat, full: &Full) {
        if let Some(thread) = seat.running.get() {
            seat.threads.borrow_mut().save(thread, trapped(full));
        }
    }

    /// Nobody of the guest runs until then, or until an event comes for the thread that waits for one.
    fn set_aside(&self, seat: &Seat, full: &Full, until_ns: Option<u64>) -> Verdict {
        self.keep(seat, full);
        seat.rest(until_ns);
        leave(LEFT_IDLE)
    }

    fn switch(&self, seat: &Seat, to: Resume, full: &mut Full) -> Verdict {
        if seat.running.get() == Some(to.thread) {
            if let Some(result) = to.result {
                full.rax = result.cast_unsigned();
            }
            full.fs = to.fs_base;
            return self.go_on(*full);
        }
        self.keep(seat, full);
        self.resume(seat, to);
        // What a gate left goes on there, all else with all its registers: `enter` knows.
        leave(crate::guest::LEFT_AGAIN)
    }

    /// A slice of time is over. A guest with one thread goes on until its request must be answered; of several threads,
    /// the next one gets its turn, and before it whatever else the cell has to do.
    fn on_tick(&self, seat: &Seat, full: &Full) -> Verdict {
        if seat.is_over() {
            return end(seat, End::TimedOut);
        }
        self.show_if_asked();
        let mut os = seat.os.borrow_mut();
        let Some(os) = os.as_mut().filter(|os| !os.is_single()) else { return self.go_on(*full) };
        os.preempt_aside();
        self.set_aside(seat, full, Some(0))
    }

    /// A tick came while the runtime was at work for the guest: a guest that asks for much in a loop would never be
    /// interrupted itself.
    fn on_late_tick(&self, seat: &Seat, back: Verdict) -> Verdict {
        if !arch::take_tick() {
            return back;
        }
        // SAFETY: the guest is about to go on with these.
        let full = unsafe { *GUEST_FULL.get() };
        self.on_tick(seat, &full)
    }

    fn on_write(&self, seat: &Seat, frame: Frame, full: &Full) -> Verdict {
        let fault = seat.space.borrow_mut().write_fault(frame.address());
        match fault {
            WriteFault::Watched => self.go_on(*full),
            WriteFault::Foreign => self.on_fault(seat, frame, full),
        }
    }

    fn on_fault(&self, seat: &Seat, frame: Frame, full: &Full) -> Verdict {
        let write = frame.register(19) & PF_WRITE != 0;
        if frame.signal() == libc::SIGSEGV && self.open_on_demand(seat, frame.address(), write) {
            return self.go_on(*full);
        }
        if full.rip == label::violation() {
            return end(seat, End::Violation);
        }
        let (signal, code, address) = (frame.signal(), frame.code(), frame.address());
        end(seat, End::Fault { signal, code, rip: full.rip, address, rsp: full.rsp, rbp: full.rbp })
    }
}

fn trapped(full: &Full) -> Saved {
    let mut xsave = arch::XsaveArea::clean();
    // SAFETY: the area is that of a frame that was just written, or the parked one.
    unsafe { arch::keep_xsave(full.xsave, &mut xsave) };
    Saved::Trap(Box::new(Trapped { full: *full, xsave }))
}
