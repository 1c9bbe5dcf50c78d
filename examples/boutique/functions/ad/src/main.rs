//! Ad: a line of advertising that fits what the visitor looks at.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::process::ExitCode;

use baton::{Context, Request};
use boutique_glue::{asked, no_such_operation, reply};
use boutique_shop::ad::ads;
use boutique_shop::wire::{self, Ad};

fn main() -> ExitCode {
    let turn = Cell::new(0usize);
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::LIST => {
            turn.set(turn.get().wrapping_add(1));
            let chosen: Vec<Ad> = ads(*asked(&request)?, turn.get()).copied().collect();
            reply(&context, chosen.as_slice())
        }
        _ => Err(no_such_operation(&request)),
    })
}
