//! Why a replica or a template could not be started.

use baton_pool::region::RegionError;
use rustix::io::Errno;

use crate::spawn::SpawnError;

/// Why a replica or a template could not be started.
#[derive(Debug)]
pub enum StartError {
    /// Shared memory for its link.
    Region(RegionError),
    /// Its sockets and pipes.
    Descriptors(Errno),
    /// The process itself.
    Spawn(SpawnError),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StartError::Region(error) => write!(f, "{error}"),
            StartError::Descriptors(errno) => write!(f, "sockets and pipes of a replica: {errno}"),
            StartError::Spawn(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}
