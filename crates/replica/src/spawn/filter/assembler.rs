//! Classic BPF for system-call filters: just the instructions that a list of calls needs.

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The call is made.
    Allow,
    /// The call returns this errno and does nothing.
    Errno(i32),
    /// The process is killed with `SIGSYS`.
    Kill,
}

impl Verdict {
    fn word(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno.unsigned_abs() & libc::SECCOMP_RET_DATA),
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// A demand on 32 bits of an argument: `half & mask == value`. For the calls that are listed with one condition per
/// argument, the kernel itself looks at no more than the low half.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    /// Which half-argument, counted from 0: twice the argument's index for the low half, one more for the high one.
    pub(super) half: u32,
    pub(super) mask: u32,
    pub(super) value: u32,
}

impl Condition {
    /// The index of the low half of an argument (the machine is little-endian).
    pub(super) const fn low(argument: u32) -> u32 {
        2 * argument
    }

    /// The low half of the argument has exactly this value.
    pub(super) const fn equal(argument: u32, value: u32) -> Self {
        Self { half: Self::low(argument), mask: u32::MAX, value }
    }
}

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64`. The 32-bit entry (`int 0x80`) has another one.
const X86_64: u32 = 0xc000_003e;

/// The x32 calls share the architecture and have this bit in their numbers.
const X32: u32 = 0x4000_0000;

/// A filter under construction.
pub(super) struct Assembler(Vec<libc::sock_filter>);

impl Assembler {
    /// Begins with what kills every foreign calling convention.
    pub(super) fn new() -> Self {
        let mut program = Self(Vec::with_capacity(512));
        program.load(ARCHITECTURE);
        program.jump(JUMP_EQUAL, X86_64, 1, 0);
        program.verdict(Verdict::Kill);
        program.load(NUMBER);
        program.jump(JUMP_AT_LEAST, X32, 0, 1);
        program.verdict(Verdict::Kill);
        program
    }

    /// The call gets the verdict, whatever its arguments are.
    pub(super) fn call(&mut self, number: libc::c_long, verdict: Verdict) {
        self.jump(JUMP_EQUAL, word(number), 0, 1);
        self.verdict(verdict);
    }

    /// The call is allowed if all conditions hold, else it gets the verdict `otherwise`.
    pub(super) fn call_if(&mut self, number: libc::c_long, conditions: &[Condition], otherwise: Verdict) {
        /// Load, mask, compare, return.
        const PER_CONDITION: usize = 4;
        let body = u8::try_from(conditions.len() * PER_CONDITION + 1).expect("invariant: few conditions");
        self.jump(JUMP_EQUAL, word(number), 0, body);
        for condition in conditions {
            self.load(ARGUMENTS + 4 * condition.half);
            self.push(AND, 0, 0, condition.mask);
            self.jump(JUMP_EQUAL, condition.value, 1, 0);
            self.verdict(otherwise);
        }
        self.verdict(Verdict::Allow);
    }

    /// The call is allowed if the low half of the argument is among the values, else it gets the verdict `otherwise`.
    pub(super) fn call_among(
        &mut self,
        number: libc::c_long,
        argument: u32,
        values: &[u32],
        otherwise: Verdict,
    ) {
        /// Compare, return; the load and the last return come on top.
        const PER_VALUE: usize = 2;
        let body = u8::try_from(values.len() * PER_VALUE + 2).expect("invariant: few values");
        self.jump(JUMP_EQUAL, word(number), 0, body);
        self.load(ARGUMENTS + 4 * Condition::low(argument));
        for &value in values {
            self.jump(JUMP_EQUAL, value, 0, 1);
            self.verdict(Verdict::Allow);
        }
        self.verdict(otherwise);
    }

    /// Ends the filter: calls that nothing above decided get this verdict.
    pub(super) fn finish(mut self, verdict: Verdict) -> Vec<libc::sock_filter> {
        self.verdict(verdict);
        self.0
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD_WORD, 0, 0, offset);
    }

    fn jump(&mut self, comparison: u16, value: u32, if_true: u8, if_false: u8) {
        self.push(comparison, if_true, if_false, value);
    }

    fn verdict(&mut self, verdict: Verdict) {
        self.push(RETURN, 0, 0, verdict.word());
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.0.push(libc::sock_filter { code, jt, jf, k });
    }
}

fn word(number: libc::c_long) -> u32 {
    u32::try_from(number).expect("invariant: system-call numbers are small")
}
