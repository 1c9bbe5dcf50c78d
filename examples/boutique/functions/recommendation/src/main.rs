//! Recommendation: products that the visitor is not looking at already.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::process::ExitCode;

use baton::{Context, Request, Response};
use boutique_glue::{Edges, asked, error, failure, no_such_operation};
use boutique_shop::recommendation::{RECOMMENDED_MAX, recommend};
use boutique_shop::wire::{self, Product, ProductId};
use zerocopy::IntoBytes;

fn main() -> ExitCode {
    let turn = Cell::new(0usize);
    baton::serve(async move |context: Context, request: Request| {
        if request.operation() != wire::LIST {
            return Err(no_such_operation(&request));
        }
        turn.set(turn.get().wrapping_add(1));
        let with: &[ProductId] = asked(&request)?;
        let mut products = context.alloc(RECOMMENDED_MAX * size_of::<Product>())?;
        let keep = |product: &Product| products.extend_from_slice(product.as_bytes()).map_err(failure);
        recommend(&Edges::new(&context), with, turn.get(), keep).await.map_err(error)?;
        Ok(Response::ok(products))
    })
}
