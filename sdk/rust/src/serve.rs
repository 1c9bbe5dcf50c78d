//! The entry point of a function.

use std::process::ExitCode;

use crate::boot;
use crate::context::Context;
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;
use crate::runtime::Runtime;

/// Exit status of a function that was not started by a node.
const EXIT_USAGE: u8 = 2;

/// Serves requests with `handler` until the node says that it is enough. Call it from `main`, once, and do what the
/// function needs before it first serves (tables, models, connections) in front of it.
///
/// Requests run on this thread. While a handler awaits a call, others go on, as many as `scale.concurrency` allows.
/// A handler that returns an error, or panics, fails its own request.
pub fn serve<H>(handler: H) -> ExitCode
where
    H: AsyncFn(Context, Request) -> Result<Response, Error> + 'static,
{
    let boot = match boot::boot() {
        Ok(boot) => boot,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let runtime = Runtime::new(boot);
    if let Err(error) = boot::announce_ready(runtime.control()) {
        eprintln!("{error}");
        return ExitCode::from(EXIT_USAGE);
    }
    runtime.run(|context, request| handler(context, request))
}
