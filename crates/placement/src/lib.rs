//! Router decisions as pure functions.
