//! Touches the last byte of its payload; answers with 64 bytes: when that was, and what the byte is.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Error, Request, Response, monotonic_ns};

const REPLY_BYTES: usize = 64;

fn main() -> ExitCode {
    baton::serve(touch)
}

async fn touch(ctx: Context, request: Request) -> Result<Response, Error> {
    let last = std::hint::black_box(request.body().last().copied().unwrap_or_default());
    let touched_ns = monotonic_ns();
    let mut reply = ctx.zeroed(REPLY_BYTES)?;
    reply[..8].copy_from_slice(&touched_ns.to_le_bytes());
    reply[8] = last;
    Ok(Response::ok(reply))
}
