//! Says when it began, and when another function did that it calls twice.
//!
//! Started as `first handshake`, it prints when its `main` began and ends: what starting the same binary as a plain
//! process costs.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Error, Request, Response, monotonic_ns};

const STAMP_BYTES: usize = 8;

fn main() -> ExitCode {
    let began_ns = monotonic_ns();
    if std::env::args_os().nth(1).is_some_and(|word| word == "handshake") {
        println!("{began_ns}");
        return ExitCode::SUCCESS;
    }
    baton::serve(stamp)
}

async fn stamp(ctx: Context, _request: Request) -> Result<Response, Error> {
    let first_ns = monotonic_ns();
    let mut trips = [(0, 0); 2];
    for (called_ns, began_ns) in &mut trips {
        *called_ns = monotonic_ns();
        let reply = ctx.call("second", ()).await?;
        let stamp: [u8; STAMP_BYTES] =
            reply.body().try_into().map_err(|_| Error::new(500, "`second` answered with no stamp"))?;
        *began_ns = u64::from_le_bytes(stamp);
    }
    let [(called_ns, second_ns), (called_again_ns, second_again_ns)] = trips;
    let stamps = format!(
        r#"{{"first_ns":{first_ns},"called_ns":{called_ns},"second_ns":{second_ns},"called_again_ns":{called_again_ns},"second_again_ns":{second_again_ns}}}"#
    );
    Ok(Response::ok(ctx.value(stamps.as_str())?).header("content-type", "application/json"))
}
