//! Front end: the shop as a person sees it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use baton::{Context, Request};
use boutique_glue::{Edges, Pages};
use boutique_shop::Ids;
use boutique_shop::frontend::{Ask, respond};

fn main() -> ExitCode {
    let ids = Ids::drawn(baton::random);
    baton::serve(async move |context: Context, request: Request| {
        let ask = Ask {
            method: request.method(),
            path: request.path(),
            query: request.query(),
            cookie: request.header("cookie"),
            accept: request.header("accept"),
            content_type: request.header("content-type"),
            body: request.body(),
        };
        let mut pages = Pages::new(&context);
        let answer = respond(&Edges::new(&context), &ids, &ask, &mut pages).await;
        Ok(pages.into_response(answer))
    })
}
