//! What artifacts are made for: an engine, its settings, and a processor's features.

/// The engine's version; `Cargo.toml` pins it.
pub const ENGINE_VERSION: &str = "48.0.8";

/// What this build makes artifacts for and runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maker;

/// Address space that a memory of a module lies in.
pub(crate) const MEMORY_RESERVATION: u64 = 4 << 30;
/// What lies behind it.
pub(crate) const MEMORY_GUARD: u64 = 32 << 20;
/// How much stack a module may use.
pub(crate) const STACK_BYTES_MAX: usize = 512 << 10;
