//! Answers with the time at which it began: eight bytes, `CLOCK_MONOTONIC` in nanoseconds.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};
use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    baton::serve(stamp)
}

async fn stamp(ctx: Context, _request: Request) -> Result<Response, Error> {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let began_ns =
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0));
    Ok(Response::ok(ctx.value(&began_ns.to_le_bytes())?))
}
