//! Layouts and numbers that node and guests agree on.
//!
//! Everything here is plain data: no allocation, no system calls, no state. Sizes and offsets are pinned by
//! assertions, because both sides of a link are compiled apart from each other.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod boot;
pub mod cell;
pub mod descriptor;
pub mod gate;
pub mod head;
pub mod limits;
pub mod packet;
pub mod plan;
pub mod reference;
pub mod rights;
pub mod stream;
pub mod wasm;

pub use descriptor::{Descriptor, Extent, Flags, HeadExtent, Kind, NONE};
pub use rights::Rights;

/// Version of all layouts in this crate. Node and guest refuse each other when it differs.
pub const ABI_VERSION: u32 = 4;
