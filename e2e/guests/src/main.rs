//! One program, many functions: the first argument, from the manifest's `args`, says which one it is.
//!
//! It is a native program and a Wasm module. What only Linux has, files and a sandbox around them, is not in the module.

mod chain;
mod events;
#[cfg(not(target_family = "wasm"))]
mod files;
mod outside;
mod plain;
mod references;
#[cfg(not(target_family = "wasm"))]
mod sandbox;
mod streams;
mod unruly;

use std::process::ExitCode;

fn main() -> ExitCode {
    let behaviour = std::env::args().nth(1).unwrap_or_default();
    match behaviour.as_str() {
        "hello" => baton::serve(plain::hello),
        "echo" => baton::serve(plain::echo),
        "inspect" => baton::serve(plain::inspect),
        "stamp" => baton::serve(plain::stamp),
        "version" => baton::serve(plain::version),
        "counted" => baton::serve(plain::counted),
        "inline" => baton::serve(plain::inline),
        #[cfg(not(target_family = "wasm"))]
        "files" => files::serve(),
        "relay" => baton::serve(chain::relay),
        "last" => baton::serve(chain::last),
        "herald" => baton::serve(chain::herald),
        "fan" => baton::serve(chain::fan),
        "crowd" => baton::serve(chain::crowd),
        "worker" => baton::serve(chain::worker),
        "sharer" => baton::serve(chain::sharer),
        "keeper" => baton::serve(references::keeper),
        "getter" => baton::serve(references::getter),
        "forgetter" => baton::serve(references::forgetter),
        "scatterer" => baton::serve(references::scatterer),
        "recorder" => baton::serve(references::recorder),
        "adder" => baton::serve(references::adder),
        "tally" => baton::serve(events::tally),
        "listener" => baton::serve(events::listener),
        "fetcher" => baton::serve(outside::fetcher),
        "streamer" => baton::serve(streams::streamer),
        "mirror" => baton::serve(streams::mirror),
        "counter" => baton::serve(streams::counter),
        "ticker" => baton::serve(streams::ticker),
        "talker" => baton::serve(streams::talker),
        "meddler" => baton::serve(streams::meddler),
        "identity" => baton::serve(streams::identity),
        "stream-caller" => baton::serve(streams::caller),
        "sleeper" => baton::serve(unruly::sleeper),
        "crasher" => baton::serve(unruly::crasher),
        "spinner" => baton::serve(unruly::spinner),
        "hog" => baton::serve(unruly::hog),
        #[cfg(not(target_family = "wasm"))]
        "sandbox" => baton::serve(sandbox::report),
        "stillborn" => {
            eprintln!("stillborn on purpose");
            ExitCode::from(7)
        }
        "picky" if std::env::var("VERSION").is_ok_and(|value| value.starts_with("wrong")) => {
            eprintln!("the server does not take this password");
            ExitCode::from(9)
        }
        "picky" => baton::serve(plain::version),
        other => {
            eprintln!("no such behaviour: {other:?}");
            ExitCode::from(2)
        }
    }
}
