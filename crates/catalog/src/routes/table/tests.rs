//! Lookups against expectations and against a plain oracle.
