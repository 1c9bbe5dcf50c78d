//! E-mail: writes the confirmation of an order into an outbox in memory. `baton invoke boutique/email` shows the last.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::process::ExitCode;

use baton::{Context, Request, Response};
use boutique_glue::{asked, error, no_such_operation, reply};
use boutique_shop::email::Outbox;
use boutique_shop::wire;

/// What the command line asks for: no operation.
const NONE: u16 = 0;

fn main() -> ExitCode {
    let outbox = RefCell::new(Outbox::default());
    baton::serve(async move |context: Context, request: Request| match request.operation() {
        wire::SEND => reply(&context, &outbox.borrow_mut().send(asked(&request)?).map_err(error)?),
        wire::LAST | NONE => {
            let outbox = outbox.borrow();
            let mail = outbox.last().unwrap_or("No mail was sent yet.\r\n");
            let mut text = context.alloc(mail.len())?;
            text.extend_from_slice(mail.as_bytes())?;
            Ok(Response::ok(text).header("content-type", "text/plain; charset=utf-8"))
        }
        _ => Err(no_such_operation(&request)),
    })
}
