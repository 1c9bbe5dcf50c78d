//! The files of functions: packed where the app lies, unpacked where the node is.
//!
//! ```text
//!   `files` of the manifest ── pack ──▶ bundle ── artifact by its hash ──▶ node ──┬── as it is ─────▶ cells
//!                                                                                 └── Trees ── one by one ──▶ processes
//! ```
//! What a bundle is, and why its bytes need not be trusted, is said in [`baton_cell::bundle`].

mod pack;
mod trees;

#[cfg(test)]
mod tests;

pub use self::pack::{PackError, pack};
pub use self::trees::Trees;
