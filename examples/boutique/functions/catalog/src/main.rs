//! Catalog: what the shop sells. The products are written into the pool once and shared, read-only, with whoever asks.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::process::ExitCode;

use baton::{Context, Error, Request, Response, Shared};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::catalog::Catalog;
use boutique_shop::wire::{self, Product, ProductId};

/// The catalogue, and its bytes in the pool.
#[derive(Default)]
struct Shelf {
    catalog: Catalog,
    bytes: OnceCell<Shared>,
}

fn main() -> ExitCode {
    let shelf = Shelf::default();
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::LIST => shelf.share(&context, 0, shelf.catalog.list().len()),
        wire::GET => {
            let id: &ProductId = asked(&request)?;
            shelf.share(&context, shelf.catalog.position(id).map_err(error)?, 1)
        }
        wire::SEARCH => shelf.search(&context, request.body()),
        _ => Err(no_such_operation(&request)),
    })
}

impl Shelf {
    /// Shares `count` products from `first` on.
    fn share(&self, context: &Context, first: usize, count: usize) -> Result<Response, Error> {
        let bytes = match self.bytes.get() {
            Some(bytes) => bytes,
            None => {
                let frozen = context.value(self.catalog.all())?.freeze();
                self.bytes.get_or_init(|| frozen)
            }
        };
        let from = first * size_of::<Product>();
        Ok(Response::ok(bytes.narrow(from..from + count * size_of::<Product>())?))
    }

    /// The products that match a word.
    fn search(&self, context: &Context, word: &[u8]) -> Result<Response, Error> {
        let word = std::str::from_utf8(word).map_err(|_| Error::new(400, "The word is not text."))?;
        let found: Vec<Product> = self.catalog.search(word).map_err(error)?.copied().collect();
        reply(context, found.as_slice())
    }
}
