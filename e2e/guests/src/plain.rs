//! Well-behaved functions.

use std::fmt::Write as _;

use baton::{Context, Error, Request, Response};

use crate::chain;

/// Greets.
pub(crate) async fn hello(ctx: Context, _request: Request) -> Result<Response, Error> {
    let mut body = ctx.alloc(64)?;
    body.extend_from_slice(b"hello, world\n")?;
    Ok(Response::ok(body).header("content-type", "text/plain"))
}

/// Answers with the payload that came, moved back.
pub(crate) async fn echo(_ctx: Context, request: Request) -> Result<Response, Error> {
    if request.body().is_empty() {
        return Ok(Response::ok(()));
    }
    Ok(Response::ok(request.into_body()?))
}

/// Says what it sees of the request, a line for each thing.
pub(crate) async fn inspect(ctx: Context, request: Request) -> Result<Response, Error> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}={value}");
    };
    line("method", request.method());
    line("path", request.path());
    line("query", request.query().unwrap_or("-"));
    line("name", request.param("name").unwrap_or("-"));
    line("body", &request.body().len().to_string());
    line("traceparent", ctx.traceparent().unwrap_or("-"));
    for (name, value) in request.headers() {
        line(&format!("header:{name}"), &String::from_utf8_lossy(value));
    }
    ctx.log(baton::Level::Info, format_args!("inspected {}", request.path()));
    Ok(Response::ok(text).status(201).header("x-from-guest", "yes"))
}

/// Says which version it is, from its environment.
pub(crate) async fn version(_ctx: Context, _request: Request) -> Result<Response, Error> {
    Ok(Response::ok(std::env::var("VERSION").unwrap_or_default()))
}

/// Logs the number of each request that it runs, and says which version it is; fails where its environment says so.
pub(crate) async fn counted(ctx: Context, request: Request) -> Result<Response, Error> {
    let version = std::env::var("VERSION").unwrap_or_default();
    let number = request.header("x-number").unwrap_or("-");
    ctx.log(baton::Level::Info, format_args!("ran {number}"));
    if std::env::var_os("FAILS").is_some() {
        return Ok(Response::ok("it fails on purpose").status(500));
    }
    let bytes = request.body().len().to_string();
    Ok(Response::ok(version).header("x-bytes", bytes))
}

/// Answers inside the descriptor, or tries what needs the pool.
pub(crate) async fn inline(ctx: Context, request: Request) -> Result<Response, Error> {
    match (request.operation(), request.path()) {
        (chain::ALLOC, _) => Ok(Response::ok(ctx.alloc(64)?)),
        (chain::LONG, _) => Ok(Response::ok("more than eight bytes")),
        (_, "/sum") => {
            let sum: u64 = request.body().iter().map(|&byte| u64::from(byte)).sum();
            Ok(Response::ok(sum.to_string()))
        }
        _ => Ok(Response::ok("inline")),
    }
}

/// Works for as many milliseconds as its environment says, and says for what: each request has a number as its body.
pub(crate) async fn stamp(ctx: Context, request: Request) -> Result<Response, Error> {
    let works = std::env::var("WORKS_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(0);
    std::thread::sleep(std::time::Duration::from_millis(works));
    let number = String::from_utf8_lossy(request.body()).into_owned();
    ctx.log(baton::Level::Info, format_args!("stamped {number}"));
    Ok(Response::ok(number))
}
