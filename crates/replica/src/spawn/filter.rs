//! The system-call filter of a sandboxed process, assembled to classic BPF.
//!
//! An allow list for ordinary programs: memory, threads, time, and input and output on descriptors that are already
//! open. What libraries try and can live without gets an honest errno; what only an attacker tries kills the process.
//! Everything else is `EPERM`.
//!
//! The program is one pass over the call's number: a comparison and a return per call, and for the few calls whose
//! arguments matter a comparison of those. The kernel caches the answer for calls that are always allowed, so that the
//! length of the list costs nothing at run time.

mod assembler;
mod calls;
mod files;
mod program;
mod template;

use std::os::fd::RawFd;

use assembler::{Assembler, Condition, Verdict};
use libc::c_long;

/// What one kind of process may do.
struct Rules {
    /// Unconditional verdicts.
    lists: &'static [(&'static [c_long], Verdict)],
    /// What has to hold of the arguments, and the verdict for when it does not.
    conditional: &'static [&'static [(c_long, &'static [Condition], Verdict)]],
    /// Calls that are allowed for some values of one argument: call, argument, values, verdict for all others.
    among: &'static [(c_long, u32, &'static [u32], Verdict)],
    /// Whether it may execute whatever it sees, and not just its own program.
    executes: bool,
    /// What happens to a call that is not listed.
    otherwise: Verdict,
}

/// The filter of a replica whose program is executed from the descriptor `exec_number`, and which may have files to read.
pub(crate) fn replica(exec_number: RawFd, has_files: bool) -> Vec<libc::sock_filter> {
    assemble(if has_files { &files::RULES } else { &calls::RULES }, exec_number)
}

/// The filter of a template and its cells, until they install one of their own on top.
pub(crate) fn template(exec_number: RawFd) -> Vec<libc::sock_filter> {
    assemble(&template::RULES, exec_number)
}

/// The filter of a program in a language of its own.
pub(crate) fn program(exec_number: RawFd) -> Vec<libc::sock_filter> {
    assemble(&program::RULES, exec_number)
}

fn assemble(rules: &Rules, exec_number: RawFd) -> Vec<libc::sock_filter> {
    let mut program = Assembler::new();
    for (numbers, verdict) in rules.lists {
        for &number in *numbers {
            program.call(number, *verdict);
        }
    }
    if !rules.executes {
        let refused = Verdict::Errno(libc::EPERM);
        program.call_if(libc::SYS_execveat, &calls::own_program(exec_number), refused);
    }
    for (number, conditions, otherwise) in rules.conditional.iter().copied().flatten() {
        program.call_if(*number, conditions, *otherwise);
    }
    for (number, argument, values, otherwise) in rules.among {
        program.call_among(*number, *argument, values, *otherwise);
    }
    program.finish(rules.otherwise)
}

#[cfg(test)]
mod tests;
