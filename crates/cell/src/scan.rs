//! The scan of executable bytes for instructions that no guest may have.
