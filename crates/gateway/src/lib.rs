//! HTTP in and out: the part of the node that speaks HTTP to the world, once per request.
//!
//! ```text
//!   socket ─▶ io ─▶ hyper ─▶ service ──begin──▶ Backend
//!                              │ upload ──write──▶ Upload     body bytes land in the backend's buffer as they come
//!                              │          ◀─finish─  Reply    the answer is written from the backend's buffer
//!                              ▼
//!                            answer
//! ```
//!
//! Everything runs on one thread, on a [`LocalSet`](tokio::task::LocalSet). A request costs no timer, no box and no
//! lock: one sweep per tick looks after the time-outs of all connections ([`Limits`] names them).
//!
//! What the gateway does not do: compression, trailers.
//!
//! The way out is [`Egress`]: an HTTP client that sends what functions ask of the network. Its connections, TLS and look-ups are
//! on a thread of their own.
#![forbid(unsafe_code)]

mod answer;
pub mod cloudevents;
mod conn;
mod counters;
mod egress;
mod feeding;
mod headers;
mod io;
mod limits;
mod refusal;
mod seam;
mod server;
mod service;
mod session;
mod socket;
mod tls;
mod trace;
mod upload;
mod wire;

pub use counters::{Counters, Snapshot};
pub use egress::{Authorities, AuthorityError, Egress};
pub use limits::Limits;
pub use seam::{Backend, Feed, NoParts, Over, PartKind, Parts, Reply, RequestHead, Upload};
pub use server::{BindError, Drained, Gateway, Handle};
pub use tls::{Tls, TlsError, TlsFiles};
