//! The library OS against a host that is made up: no cell, no memory keys.

mod fake;
mod files;
mod hostile;
mod identity;
mod memory;
mod oracle;
mod saved;
mod threads;
mod waits;

use fake::{BASE, Guest, SCRATCH, errno};
