//! What runs inside a cell: compartments behind memory keys, the gates between them, and the library OS that serves
//! their trapped system calls.

pub mod elf;
pub mod os;
pub mod scan;
