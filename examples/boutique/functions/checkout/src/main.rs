//! Checkout: turns a cart into an order.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Request, Response};
use boutique_glue::{Edges, asked, error, no_such_operation};
use boutique_shop::{Ids, checkout, wire};

fn main() -> ExitCode {
    let ids = Ids::drawn(baton::random);
    baton::serve(async move |context: Context, request: Request| {
        if request.operation() != wire::ORDER {
            return Err(no_such_operation(&request));
        }
        let order = checkout::place(&Edges::new(&context), &ids, asked(&request)?).await.map_err(error)?;
        Ok(Response::ok(order.into_buffer()))
    })
}
