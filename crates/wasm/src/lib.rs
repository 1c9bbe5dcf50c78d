//! What the compiler of Wasm modules and the cells that run them agree on.
//!
//! ```text
//!   module ──check──▶ compile ──▶ artifact ┬ header, one page: what it is and what it was made for
//!          └── baton-wasmc, a process ──┘  └ wasmtime's precompiled module ──▶ a cell, which maps and runs it
//! ```
//!
//! Without features there is only [`Maker`], which says what this build makes artifacts for, and the header of
//! artifacts: all that a node needs, which so links neither engine nor compiler. `run` adds the engine's settings,
//! `compile` the checks and the compiler.
#![forbid(unsafe_code)]

mod maker;
#[cfg(any(feature = "run", feature = "compile"))]
mod settings;

pub use maker::{ENGINE_VERSION, Maker};
#[cfg(any(feature = "run", feature = "compile"))]
pub use settings::{proposals, settings};
