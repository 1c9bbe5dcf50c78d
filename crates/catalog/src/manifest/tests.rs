//! What a manifest says, and what is said of a bad one.
