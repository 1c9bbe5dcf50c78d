//! An honest caller: passes its request on to the function that its first argument names, moved, lent and shared, and
//! says what came of it. Its own answer is always a success.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use baton::{Context, Error, Reply, Request, Response};

/// Less than the function's own time, so that it can tell.
const PATIENCE: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    baton::serve(handle)
}

async fn handle(ctx: Context, request: Request) -> Result<Response, Error> {
    let callee = std::env::args().nth(1).unwrap_or_default();
    if request.path() == "/die" {
        std::process::exit(3);
    }
    let mut text = ctx.alloc(4096)?;
    let mut say = |way: &str, result: Result<Reply, Error>| {
        // The buffer holds all that three short lines can be.
        let _ = match result {
            Ok(reply) => {
                writeln!(text, "{way} ok {} {}", reply.status(), String::from_utf8_lossy(first(reply.body())))
            }
            Err(error) => writeln!(
                text,
                "{way} failed {}",
                String::from_utf8_lossy(first(error.to_string().as_bytes()))
            ),
        };
    };
    let mut moved = ctx.alloc(1000)?;
    moved.extend_from_slice(b"moved")?;
    say("move", ctx.call(&callee, moved).timeout(PATIENCE).await);
    if request.path() == "/once" {
        return Ok(Response::ok(text));
    }
    let mut lent = ctx.alloc(1000)?;
    lent.extend_from_slice(b"lent")?;
    say("lend", ctx.call(&callee, &lent).timeout(PATIENCE).await);
    let mut shared = ctx.alloc(1000)?;
    shared.extend_from_slice(b"shared")?;
    let shared = shared.freeze();
    say("share", ctx.call(&callee, &shared).timeout(PATIENCE).await);
    shared.revoke();
    Ok(Response::ok(text))
}

fn first(bytes: &[u8]) -> &[u8] {
    bytes.get(..bytes.len().min(500)).unwrap_or_default()
}
