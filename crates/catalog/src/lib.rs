//! The manifest, ids, limits and rights.
