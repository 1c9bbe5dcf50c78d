//! Currency: converts amounts at the euro reference rates.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::process::ExitCode;

use baton::{Context, Request, Response, Shared};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::{currency, wire};

fn main() -> ExitCode {
    let codes: OnceCell<Shared> = OnceCell::new();
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::LIST => {
            let shared = match codes.get() {
                Some(shared) => shared,
                None => {
                    let frozen = context.value(&currency::codes())?.freeze();
                    codes.get_or_init(|| frozen)
                }
            };
            Ok(Response::ok(shared.clone()))
        }
        wire::CONVERT => reply(&context, &currency::convert(asked(&request)?).map_err(error)?),
        _ => Err(no_such_operation(&request)),
    })
}
