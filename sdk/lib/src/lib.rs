//! libbaton: the link of a function in a process of its own, for C and for languages that are built on C.
//!
//! The messages are those of the gates (`sdk/c/include/baton/gates.h`), the functions are declared in
//! `sdk/c/include/baton/link.h`. One thread uses the link, the one that opened it: to others it is not there (`-EPERM`).
//!
//! | file | what |
//! |---|---|
//! | `open.rs` | the one link of this process, and whose it is |
//! | `calls.rs` | the functions |
//! | `page.rs` | the same as a page of gates: a program that was written for compartments finds them there |
//! | `watch.rs` | a descriptor that becomes readable when there is something to do |

mod calls;
mod open;
mod page;
mod watch;
