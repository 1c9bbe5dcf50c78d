//! Writes to 25 pages of its own memory at each request. It is deployed twice, with `reset` and without.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

use baton::{Context, Error, Request, Response};

const PAGES: usize = 25;
const PAGE_BYTES: usize = 4096;

static MEMORY: [AtomicU8; PAGES * PAGE_BYTES] = [const { AtomicU8::new(0) }; PAGES * PAGE_BYTES];

fn main() -> ExitCode {
    baton::serve(write_pages)
}

async fn write_pages(ctx: Context, _request: Request) -> Result<Response, Error> {
    let mut marks = 0;
    for byte in MEMORY.iter().step_by(PAGE_BYTES) {
        marks += usize::from(byte.fetch_add(1, Ordering::Relaxed) == 0);
    }
    // 25 after a reset, and at the very first request.
    let body = ctx.value(marks.to_string().as_str())?;
    Ok(Response::ok(body).header("content-type", "text/plain"))
}
