//! Functions that misbehave.

// UNSAFETY: faults on purpose.
#![expect(unsafe_code, reason = "a wild write is the fault under test")]

use std::time::Duration;

use baton::{Context, Error, Request, Response};

const PAGE_BYTES: usize = 4096;
/// An address where nothing is. The first page of a module is memory like any other; this is more than it asked for.
const NOWHERE: usize = if cfg!(target_family = "wasm") { 0x7000_0000 } else { 8 };

fn number(request: &Request, otherwise: u64) -> u64 {
    let digits = request.query().and_then(|query| query.strip_prefix("ms="));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(otherwise)
}

/// Stands still for `?ms=`, then answers with what came.
pub(crate) async fn sleeper(_ctx: Context, request: Request) -> Result<Response, Error> {
    std::thread::sleep(Duration::from_millis(number(&request, 100)));
    if request.body().is_empty() {
        return Ok(Response::ok("slept"));
    }
    Ok(Response::ok(request.into_body()?))
}

/// Dies as the path says.
pub(crate) async fn crasher(_ctx: Context, request: Request) -> Result<Response, Error> {
    match request.path() {
        "/crash/abort" => std::process::abort(),
        "/crash/exit" => std::process::exit(3),
        "/crash/panic" => panic!("on purpose"),
        "/crash/segv" => {
            let nowhere = std::hint::black_box(NOWHERE as *mut u8);
            // SAFETY: none: the fault is the point, and nothing is ever mapped there.
            unsafe { nowhere.write_volatile(1) };
            Ok(Response::ok("survived"))
        }
        _ => Ok(Response::ok("alive")),
    }
}

/// Never returns.
pub(crate) fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Spins if the path says so.
pub(crate) async fn spinner(_ctx: Context, request: Request) -> Result<Response, Error> {
    if request.path().ends_with("/forever") {
        spin();
    }
    Ok(Response::ok("quick"))
}

/// Takes memory until there is none if the path says so.
pub(crate) async fn hog(_ctx: Context, request: Request) -> Result<Response, Error> {
    if !request.path().ends_with("/all") {
        return Ok(Response::ok("modest"));
    }
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = vec![0u8; 256 * PAGE_BYTES];
        for page in block.chunks_mut(PAGE_BYTES) {
            page.fill(1);
        }
        taken.push(std::hint::black_box(block));
    }
}
