//! Answers with 64 bytes and leaves the payload alone.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};

const REPLY_BYTES: usize = 64;

fn main() -> ExitCode {
    baton::serve(answer)
}

async fn answer(ctx: Context, _request: Request) -> Result<Response, Error> {
    Ok(Response::ok(ctx.zeroed(REPLY_BYTES)?))
}
