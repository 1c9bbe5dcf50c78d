//! Catalog: what the shop sells.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::catalog::Catalog;
use boutique_shop::wire::{self, Product, ProductId};

fn main() -> ExitCode {
    let catalog = Catalog::default();
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::LIST => reply(&context, catalog.list()),
        wire::GET => {
            let id: &ProductId = asked(&request)?;
            reply(&context, catalog.get(id).map_err(error)?)
        }
        wire::SEARCH => search(&catalog, &context, request.body()),
        _ => Err(no_such_operation(&request)),
    })
}

/// The products that match a word.
fn search(catalog: &Catalog, context: &Context, word: &[u8]) -> Result<Response, Error> {
    let word = std::str::from_utf8(word).map_err(|_| Error::new(400, "The word is not text."))?;
    let found: Vec<Product> = catalog.search(word).map_err(error)?.copied().collect();
    reply(context, found.as_slice())
}
