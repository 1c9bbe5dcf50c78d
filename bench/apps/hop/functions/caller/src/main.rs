//! Calls `callee` over and over and times the round trips.
//!
//! `lend`: one payload, filled once, lent for each call. `move`: a fresh payload of zeroes for each call, which the callee
//! owns and drops; allocating and zeroing it is part of the round trip. With `batch` there is one time for so many calls,
//! their mean: reading the clock costs as much as a call between compartments.
//!
//! What is posted goes to `callee` once, and the answer back: the chain of `baton bench audit`.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Instant;

use baton::{Buffer, Context, Error, Request, Response};

const REPLY_BYTES: usize = 64;
const PAYLOAD_MAX: usize = 64 << 20;
const ITERATIONS_MAX: usize = 1_000_000;
const BATCH_MAX: usize = 1000;
const WARM_UP_MAX: usize = 200;
const PAGE_BYTES: usize = 4096;

fn main() -> ExitCode {
    baton::serve(time_calls)
}

async fn time_calls(ctx: Context, request: Request) -> Result<Response, Error> {
    if request.method() == "POST" {
        let reply = ctx.call("callee", request.into_body()?).await?;
        check(reply.body().len())?;
        return Ok(Response::ok(reply.into_body()?));
    }
    let payload = number(&request, "payload", 64)?.min(PAYLOAD_MAX);
    let iterations = number(&request, "iterations", 1000)?.clamp(1, ITERATIONS_MAX);
    let batch = number(&request, "batch", 1)?.clamp(1, BATCH_MAX.min(iterations));
    let warm_up = (iterations / 10).clamp(1, WARM_UP_MAX);
    let lent = match parameter(&request, "mode").unwrap_or("lend") {
        "lend" => Some(touched(&ctx, payload)?),
        "move" => None,
        other => return Err(Error::new(400, format!("mode is lend or move, not {other}"))),
    };
    let caller = Caller { ctx: &ctx, payload, lent };
    caller.call(warm_up).await?;
    let mut nanos = Vec::with_capacity(iterations / batch);
    for _ in 0..iterations / batch {
        let begun = Instant::now();
        caller.call(batch).await?;
        let each = begun.elapsed().as_nanos() / batch as u128;
        nanos.push(u64::try_from(each).unwrap_or(u64::MAX));
    }
    let mut body = ctx.alloc(512)?;
    write!(body, "{}", summary(nanos)).map_err(|_| Error::new(500, "the summary is too long"))?;
    Ok(Response::ok(body).header("content-type", "application/json"))
}

/// A payload whose pages are there.
fn touched(ctx: &Context, payload: usize) -> Result<Buffer, Error> {
    let mut buffer = ctx.zeroed(payload)?;
    for byte in buffer.iter_mut().step_by(PAGE_BYTES) {
        *byte = 1;
    }
    Ok(buffer)
}

struct Caller<'a> {
    ctx: &'a Context,
    payload: usize,
    /// What is lent for each call; without it, each call gets a payload of its own.
    lent: Option<Buffer>,
}

impl Caller<'_> {
    async fn call(&self, times: usize) -> Result<(), Error> {
        for _ in 0..times {
            let reply = match &self.lent {
                Some(buffer) => self.ctx.call("callee", buffer).await?,
                None => self.ctx.call("callee", self.ctx.zeroed(self.payload)?).await?,
            };
            check(reply.body().len())?;
        }
        Ok(())
    }
}

fn check(reply_bytes: usize) -> Result<(), Error> {
    match reply_bytes {
        REPLY_BYTES => Ok(()),
        other => Err(Error::new(500, format!("the reply has {other} bytes"))),
    }
}

fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let pairs = request.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn number(request: &Request, name: &str, default: usize) -> Result<usize, Error> {
    let Some(text) = parameter(request, name) else { return Ok(default) };
    text.parse().map_err(|_| Error::new(400, format!("{name} is a number, not {text}")))
}

fn summary(mut nanos: Vec<u64>) -> String {
    nanos.sort_unstable();
    let last = nanos.len().saturating_sub(1);
    let at = |percent: usize| nanos.get(last * percent / 100).copied().unwrap_or(0);
    let mean = nanos.iter().sum::<u64>() / nanos.len().max(1) as u64;
    format!(
        r#"{{"p50_ns":{},"p95_ns":{},"p99_ns":{},"mean_ns":{mean},"min_ns":{}}}"#,
        at(50),
        at(95),
        at(99),
        at(0)
    )
}
