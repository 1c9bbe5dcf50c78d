//! Guests that try to escape from the real `baton-cell`, one way at a time, and what becomes of them.
//!
//! Sources of the guests: `e2e/villain/compartment`. After every attack the same function and its neighbour serve the next
//! request, in the same cell. Needs memory keys, Syscall User Dispatch and FSGSBASE; skipped loudly where they are missing.

// UNSAFETY: hands the control socket to the child by number.
#![expect(unsafe_code, reason = "descriptors are placed between fork and exec")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod arena;
mod buffers;
#[path = "../cell/built.rs"]
mod built;
mod executables;
mod exhaustion;
#[path = "../cell/function.rs"]
mod function;
mod gates;
mod jumps;
mod leaks;
mod memory;
#[path = "../cell/node.rs"]
#[expect(dead_code, reason = "the other tests of the cell use all of it")]
mod node;
#[path = "../cell/program.rs"]
mod program;
mod signals;
mod symbols;
mod syscalls;

use built::{compiled, give_control, harmless, machine_can};
use program::cell_binary;
