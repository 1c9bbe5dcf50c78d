//! What programs of Wasm functions have in common: the artifact in their own image.

pub mod image;
