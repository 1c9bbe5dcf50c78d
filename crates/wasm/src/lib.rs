//! What the compiler of Wasm modules and the cells that run them agree on.
//!
//! ```text
//!   module ──check──▶ compile ──▶ artifact ┬ header, one page: what it is and what it was made for
//!          └── baton-wasmc, a process ──┘  └ wasmtime's precompiled module
//!   artifact ─── weld ──▶ an executable that goes on in the program of all modules: a cell loads, scans and runs both as one
//! ```
//!
//! Without features there is only [`Maker`], which says what this build makes artifacts for, the [`Header`] of artifacts, and
//! [`weld()`]: all that a node needs, which so links neither engine nor compiler. `run` adds the engine's settings,
//! `compile` the checks and the compiler.
#![forbid(unsafe_code)]

mod artifact;
#[cfg(feature = "compile")]
mod check;
#[cfg(feature = "compile")]
mod compile;
mod elf;
mod maker;
#[cfg(any(feature = "run", feature = "compile"))]
mod settings;
mod traps;
mod weld;

pub use artifact::{HEADER_BYTES, Header, Kind, MAGIC, ReadError, is_component};
#[cfg(feature = "compile")]
pub use check::{
    CheckError, Checked, FUNCTIONS_MAX, GLOBALS_MAX, MODULE_BYTES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX, check,
};
#[cfg(feature = "compile")]
pub use compile::{CompileError, compile};
pub use maker::{ENGINE_VERSION, MEMORY_GUARD, MEMORY_RESERVATION, Maker, STACK_BYTES_MAX};
#[cfg(any(feature = "run", feature = "compile"))]
pub use settings::{component_proposals, proposals, settings};
pub use traps::trap_at;
pub use weld::{SEAL_BYTES, WeldError, weld, welded};
