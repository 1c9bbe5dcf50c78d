//! Cart: what each visitor wants to buy, in memory.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::process::ExitCode;

use baton::{Context, Request, Response};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::cart::Carts;
use boutique_shop::wire;

fn main() -> ExitCode {
    let carts = RefCell::new(Carts::default());
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::GET => reply(&context, carts.borrow_mut().get(asked(&request)?)),
        wire::ADD => {
            carts.borrow_mut().add(asked(&request)?).map_err(error)?;
            Ok(Response::empty())
        }
        wire::EMPTY => {
            carts.borrow_mut().empty(asked(&request)?);
            Ok(Response::empty())
        }
        _ => Err(no_such_operation(&request)),
    })
}
