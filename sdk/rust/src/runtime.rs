//! The seam between what handlers see and what carries it: one enum, a back end for each place.
//!
//! | back end | where the function runs | payloads | calls |
//! |---|---|---|---|
//! | `Link` | in a process of its own | the mapped pool and the app's capability table | rings |
//! | [`Gates`] | in a compartment of a cell | wherever the cell's runtime says | gates |
//! | [`Gates`] | in a Wasm module | in a window of its memory | gates |
//!
//! A Wasm module has no other back end.
//! A back end lives as long as the process, so what points to it needs no count.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::gates::Gates;
#[cfg(not(target_arch = "wasm32"))]
use crate::link::Link;
use crate::shelf::Shelf;

/// What carries payloads and calls.
#[derive(Clone, Copy)]
pub(crate) enum Runtime {
    #[cfg(not(target_arch = "wasm32"))]
    Link(&'static Link),
    Gates(&'static Gates),
}

impl Runtime {
    /// An empty payload with room for at least `len` bytes.
    #[inline]
    pub(crate) fn alloc(self, len: usize) -> Result<Buffer, Error> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(link) => Ok(Buffer::new(self, link.take(len)?, len)),
            Runtime::Gates(gates) => Ok(Buffer::again(gates.take(len)?, len)),
        }
    }

    /// Whether the manifest lets this function call `function`.
    pub(crate) fn declares(self, function: &str) -> bool {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(link) => link.declares(function),
            Runtime::Gates(gates) => gates.declares(function),
        }
    }

    /// Boxes for payloads.
    #[inline]
    pub(crate) fn shelf(self) -> &'static Shelf {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(link) => &link.shelf,
            Runtime::Gates(gates) => &gates.shelf,
        }
    }

    /// Within one epoch no capability of this function ends but by its own doing; `None` where that cannot be told.
    #[inline]
    pub(crate) fn epoch(self) -> Option<u32> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Runtime::Link(_) => None,
            Runtime::Gates(gates) => Some(gates.epoch()),
        }
    }
}

impl core::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Runtime")
    }
}
