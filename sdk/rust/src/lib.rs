//! Write Baton functions in Rust.
//!
//! A function is an ordinary program whose `main` calls [`serve()`]. Payloads live in the app's pool: they are read and
//! written where they lie, and handed on by capability.
//!
//! ```no_run
//! use baton::{Context, Error, Request, Response};
//!
//! fn main() -> std::process::ExitCode {
//!     baton::serve(async |ctx: Context, _req: Request| {
//!         let mut page = ctx.alloc(64)?;
//!         page.extend_from_slice(b"hello, world\n")?;
//!         Ok(Response::ok(page).header("content-type", "text/plain"))
//!     })
//! }
//! ```
//! One thread runs everything: many requests may be in flight, each a task that yields while it waits for a call.
//! Ownership is Rust's: a buffer that was moved cannot be touched again, one that was lent comes back.

mod body;
mod buffer;
mod call;
mod capability;
#[cfg_attr(target_arch = "wasm32", path = "clock/module.rs")]
mod clock;
mod cloudevent;
mod context;
mod error;
mod executor;
mod fetch;
mod gates;
mod head;
mod held;
#[cfg_attr(target_arch = "wasm32", path = "hop/absent.rs")]
mod hop;
mod join;
#[cfg(not(target_arch = "wasm32"))]
mod link;
mod message;
#[cfg(not(target_arch = "wasm32"))]
pub mod outside;
mod put;
mod random;
mod request;
mod response;
mod runtime;
mod serve;
mod shelf;
mod stream;

pub use body::{Body, Shared};
pub use buffer::Buffer;
pub use call::{Call, Payload, Reply};
pub use clock::now_ns as monotonic_ns;
pub use cloudevent::CloudEvent;
pub use context::{Context, Level};
pub use error::Error;
pub use fetch::Fetch;
pub use put::{Put, Reference};
pub use random::{on_restore, random};
pub use request::Request;
pub use response::Response;
#[cfg(not(target_arch = "wasm32"))]
pub use serve::keep_control;
pub use serve::serve;
pub use stream::{Event, Events, Parts, Received, Sender, WebSocket};
pub use zerocopy;
