//! Answers with the time at which it began: eight bytes, `CLOCK_MONOTONIC` in nanoseconds.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Error, Request, Response, monotonic_ns};

fn main() -> ExitCode {
    baton::serve(stamp)
}

async fn stamp(ctx: Context, _request: Request) -> Result<Response, Error> {
    let began_ns = monotonic_ns();
    Ok(Response::ok(ctx.value(&began_ns.to_le_bytes())?))
}
