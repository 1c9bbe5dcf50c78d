//! What runs inside a cell: compartments behind memory keys, the gates between them, and the library OS that serves
//! their trapped system calls.
//!
//! The binary is `baton-cell`. It holds the runtime and nothing else: few enough bytes of text that every one is scanned
//! when it starts.

pub mod bundle;
pub mod elf;
pub mod os;
pub mod scan;
pub mod template;

mod arch;
mod book;
mod control;
mod effects;
mod executable;
mod figures;
mod filter;
mod gates;
mod guest;
mod hand;
mod hops;
mod inbound;
mod keys;
mod links;
mod load;
mod mail;
mod memory;
mod outside;
mod pages;
mod reach;
mod roads;
mod runtime;
mod seat;
mod slab;
mod snapshot;
mod space;
mod sys;
mod threads;
mod trap;
mod turns;
mod vdso;
