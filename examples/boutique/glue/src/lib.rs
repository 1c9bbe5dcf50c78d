//! Carries the boutique's calls by Baton: requests are written into pool buffers and handed over, replies are read
//! where they lie. Nothing is serialised, parsed or copied on the way.
#![forbid(unsafe_code)]

mod edges;
mod held;
mod paper;

pub use edges::Edges;
pub use held::{Draft, Held};
pub use paper::Pages;

use baton::{Context, Error, Request, Response};
use boutique_shop::{Failure, Layout};

/// What a function answers its caller when it fails.
pub fn error(failure: impl Into<Failure>) -> Error {
    let Failure { status, message } = failure.into();
    Error::new(status, message)
}

/// What a failed call means to the shop.
pub fn failure(error: Error) -> Failure {
    let status = error.status();
    match error {
        Error::Handler { message, .. } | Error::Function { message, .. } => Failure::new(status, message),
        other => Failure::new(status, other.to_string()),
    }
}

/// The request's body, in place.
pub fn asked<T: Layout + ?Sized>(request: &Request) -> Result<&T, Error> {
    boutique_shop::wire::read(request.body()).map_err(error)
}

/// The answer to an operation that the function does not have.
pub fn no_such_operation(request: &Request) -> Error {
    Error::new(404, format!("There is no operation {}.", request.operation()))
}

/// A reply of one layout. No bytes need no buffer.
pub fn reply<T: Layout + ?Sized>(context: &Context, value: &T) -> Result<Response, Error> {
    if size_of_val(value) == 0 {
        return Ok(Response::empty());
    }
    Ok(Response::ok(context.value(value)?))
}
