//! The gateway's edge: streams both ways, server-sent events, WebSockets, TLS.

#![expect(clippy::unwrap_used, reason = "a test that lacks its set-up fails")]

mod open;
mod sockets;
mod streams;
mod tls;
mod wire;
