//! Answers with the same few bytes as the bare hyper server that it is measured against.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};

const HELLO: &[u8] = b"hello";

fn main() -> ExitCode {
    baton::serve(hello)
}

async fn hello(ctx: Context, _request: Request) -> Result<Response, Error> {
    let mut body = ctx.alloc(HELLO.len())?;
    body.extend_from_slice(HELLO)?;
    Ok(Response::ok(body).header("content-type", "text/plain"))
}
