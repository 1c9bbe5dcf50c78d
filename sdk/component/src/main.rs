//! The program of a component.
//!
//! A function whose artifact is a component is this program and the component, precompiled, in one ELF file, and runs as a
//! guest of a compartment like any other. It is a function written with the SDK: what `wasi:http` asks for becomes what the SDK
//! has, and the rest of WASI is wasmtime's own, over what a compartment offers (`docs/languages.md`).
//!
//! ```text
//!  request ──▶ handler ──▶ incoming-handler (0.2) or handler (0.3) of the component
//!                            │ outgoing request to http://NAME.baton/…   ──▶ a call to function NAME
//!                            │ outgoing request to another host          ──▶ the node's network, if the manifest says so
//!                            ▼
//!                          response: its body is gathered in the pool
//! ```
//! The component is instantiated before the first request is asked for: what it has done by then is in the snapshot, and each
//! request begins there.

mod bodies;
mod drive;
mod function;
mod outgoing;
mod payloads;
mod single;
mod state;

use std::process::ExitCode;
use std::rc::Rc;

use crate::function::Function;

fn main() -> ExitCode {
    match Function::start() {
        Ok(function) => {
            let function = Rc::new(function);
            baton::serve(async move |context, request| function.serve(context, request).await)
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
