//! Write Baton functions in Rust.
