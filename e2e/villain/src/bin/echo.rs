//! An honest callee: answers with what it got, by moving it back; with its own words if it got nothing.

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};

fn main() -> ExitCode {
    baton::serve(handle)
}

async fn handle(_: Context, request: Request) -> Result<Response, Error> {
    if request.path() == "/die" {
        std::process::exit(3);
    }
    if request.body().is_empty() {
        return Ok(Response::ok("echo"));
    }
    Ok(Response::ok(request.into_body()?))
}
