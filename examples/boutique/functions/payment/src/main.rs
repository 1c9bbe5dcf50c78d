//! Payment: checks a card and charges it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Request};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::payment::{Month, pay};
use boutique_shop::{Ids, wire};

fn main() -> ExitCode {
    let ids = Ids::drawn(baton::random);
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::PAY => reply(&context, &pay(&ids, asked(&request)?, Month::now()).map_err(error)?),
        _ => Err(no_such_operation(&request)),
    })
}
