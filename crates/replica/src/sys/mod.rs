//! The only unsafe code of this crate: creating a process and what it does until it executes its program, and system
//! calls that have no safe wrapper.

pub(crate) mod child;
pub(crate) mod clone;
pub(crate) mod doors;
pub(crate) mod machine;
pub(crate) mod report;
pub(crate) mod root;
pub(crate) mod turns;
