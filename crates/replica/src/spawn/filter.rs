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

use std::os::fd::RawFd;

use assembler::{Assembler, Verdict};

/// The filter of a process whose program is executed from the descriptor `exec_number`.
pub(crate) fn replica(exec_number: RawFd) -> Vec<libc::sock_filter> {
    let mut program = Assembler::new();
    for (numbers, verdict) in calls::LISTS {
        for &number in *numbers {
            program.call(number, *verdict);
        }
    }
    let refused = Verdict::Errno(libc::EPERM);
    program.call_if(libc::SYS_execveat, &calls::own_program(exec_number), refused);
    for (number, conditions, otherwise) in calls::CONDITIONAL {
        program.call_if(*number, conditions, *otherwise);
    }
    for (number, argument, values) in calls::AMONG {
        program.call_among(*number, *argument, values, refused);
    }
    program.finish(refused)
}

#[cfg(test)]
mod tests;
