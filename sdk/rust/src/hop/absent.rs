//! A module keeps no account of what its calls cost: the cell that runs it does.

/// There is none.
pub(crate) enum Hop {}

impl Hop {
    pub(crate) fn add_cpu(&mut self, _ns: u64) {
        match *self {}
    }
}

/// Nobody asks.
pub(crate) fn cpu_ns() -> u64 {
    0
}
