//! Currency: converts amounts at the euro reference rates.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Request};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::{currency, wire};

fn main() -> ExitCode {
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::LIST => reply(&context, &currency::codes()),
        wire::CONVERT => reply(&context, &currency::convert(asked(&request)?).map_err(error)?),
        _ => Err(no_such_operation(&request)),
    })
}
