//! Placeholder until the parts below it stand.
fn main() {}
