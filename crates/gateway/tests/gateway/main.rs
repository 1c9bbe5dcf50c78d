//! The gateway over real sockets on loopback, before a backend in memory. Requests are written by hand, byte by
//! byte, and every test is bounded in time.
#![expect(clippy::unwrap_used, reason = "what a test sets up either works or fails the test")]

mod drain;
mod hostile;
mod http1;
mod http2;
mod random;
mod slow;
mod support;
