//! One invocation from start to end.
