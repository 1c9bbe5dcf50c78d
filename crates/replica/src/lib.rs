//! Node side of process replicas: start, sandbox, supervise, call.
