//! The library OS against a host that is made up: no cell, no memory keys.

#![expect(clippy::cast_possible_truncation, reason = "addresses and lengths within a seat of 256 pages")]

mod fake;
mod files;
mod hostile;
mod identity;
mod memory;
mod oracle;
mod pipes;
mod saved;
mod threads;
mod waits;

use fake::{BASE, Guest, SCRATCH, errno};
