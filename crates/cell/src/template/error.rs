//! Why a template ends.

use baton_abi::ABI_VERSION;
use rustix::io::Errno;

/// Why a template ends.
#[derive(Debug)]
pub(super) enum SetupError {
    /// The machine lacks something.
    Machine(&'static str),
    /// The runtime's own text has what only its gates may have.
    Text {
        at: u64,
    },
    /// A message that is none, or not the one that was due.
    Protocol(&'static str),
    /// The node speaks another version.
    Version {
        node: u32,
    },
    Kernel {
        step: &'static str,
        errno: Errno,
    },
}

impl core::fmt::Display for SetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SetupError::Machine(what) => {
                write!(f, "this machine has no {what}: compartments cannot run on it")
            }
            SetupError::Text { at } => {
                write!(
                    f,
                    "the cell's own code has a key-changing instruction at {at:#x}: this build is unsafe"
                )
            }
            SetupError::Protocol(what) => write!(f, "unexpected message from the node: {what}"),
            SetupError::Version { node } => {
                write!(
                    f,
                    "built for ABI version {ABI_VERSION}, the node speaks {node}: install both of one build"
                )
            }
            SetupError::Kernel { step, errno } => write!(f, "{step}: {errno}"),
        }
    }
}

pub(super) fn at(step: &'static str) -> impl FnOnce(Errno) -> SetupError {
    move |errno| SetupError::Kernel { step, errno }
}

pub(super) fn region(step: &'static str) -> impl FnOnce(baton_pool::region::RegionError) -> SetupError {
    move |error| SetupError::Kernel { step, errno: error.errno }
}
