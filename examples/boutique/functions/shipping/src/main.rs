//! Shipping: what a parcel costs and which number it has.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Request};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::wire::{self, Parcel};
use boutique_shop::{Ids, shipping};

fn main() -> ExitCode {
    let ids = Ids::drawn(baton::random);
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::QUOTE => reply(&context, &shipping::quote(asked(&request)?).map_err(error)?),
        wire::SHIP => {
            let parcel: &Parcel = asked(&request)?;
            reply(&context, &shipping::ship(&ids, &parcel.address, &parcel.lines).map_err(error)?)
        }
        _ => Err(no_such_operation(&request)),
    })
}
