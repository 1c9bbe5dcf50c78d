//! The entry point of a function.

use std::process::ExitCode;

use baton_abi::boot::CALLS_ENV;

use crate::context::Context;
use crate::error::Error;
use crate::gates::{Gates, Page};
#[cfg(not(target_arch = "wasm32"))]
use crate::link::Link;
use crate::request::Request;
use crate::response::Response;

/// Exit status of a function that was not started by a node.
#[cfg(not(target_arch = "wasm32"))]
const EXIT_USAGE: u8 = 2;

/// Serves requests with `handler` until the node says that it is enough. Call it from `main`, once, and do what the
/// function needs before it first serves (tables, models, connections) in front of it.
///
/// Requests run on this thread. While a handler awaits a call, others go on, as many as `scale.concurrency` allows.
/// A handler that returns an error, or panics, fails its own request.
///
/// The same program runs in a process of its own and in a compartment of a cell, as the manifest's `isolation` says; here it
/// finds out. Compiled to a Wasm module it gets requests once `main` has returned: return at once what this returns.
pub fn serve<H>(handler: H) -> ExitCode
where
    H: AsyncFn(Context, Request) -> Result<Response, Error> + 'static,
{
    #[cfg(not(target_arch = "wasm32"))]
    return serve_here(&handler);
    #[cfg(target_arch = "wasm32")]
    {
        // Lives on when `main` has returned.
        let handler: &'static H = Box::leak(Box::new(handler));
        Gates::start(Page, declared_calls()).run(move |context, request| handler(context, request))
    }
}

/// Keeps this function's way to its node from programs that it starts: to be called before it starts the first.
#[cfg(not(target_arch = "wasm32"))]
pub fn keep_control() {
    Link::keep_control();
}

/// Serves in whatever this process is.
#[cfg(not(target_arch = "wasm32"))]
fn serve_here<H>(handler: &H) -> ExitCode
where
    H: AsyncFn(Context, Request) -> Result<Response, Error> + 'static,
{
    let make = |context, request| handler(context, request);
    let served = match Page::find() {
        Some(page) => page
            .check()
            .map(|page| Gates::start(page, declared_calls()).run(make))
            .map_err(|error| error.to_string()),
        None => Link::start(declared_calls()).map(|link| link.run(make)),
    };
    served.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// What the manifest's `calls` names, as the node says it in the environment.
pub(crate) fn declared_calls() -> Vec<String> {
    let names = std::env::var(CALLS_ENV).unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
