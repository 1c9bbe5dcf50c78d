//! The gateway's edge: streams both ways, server-sent events, WebSockets, TLS.

mod open;
mod sockets;
mod streams;
mod tls;
mod wire;
