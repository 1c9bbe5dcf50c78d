//! Writes a stamp over the last bytes of a payload, where it lies: Rust as a Wasm module.

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};

const STAMP: &[u8] = b"stamped by baton";

fn main() -> ExitCode {
    baton::serve(async |_: Context, request: Request| {
        let mut payload = request.into_body()?;
        let bytes = payload.bytes_mut()?;
        let Some(place) = bytes.len().checked_sub(STAMP.len()).and_then(|at| bytes.get_mut(at..)) else {
            return Err(Error::new(400, format!("a payload has at least {} bytes", STAMP.len())));
        };
        place.copy_from_slice(STAMP);
        Ok(Response::ok(payload).header("x-stamped", "yes"))
    })
}
