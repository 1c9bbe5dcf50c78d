//! Calls `callee`, or `nearby`, over and over and times it from inside.
//!
//! `move`: a payload of its own for each call, made before the clock is read; the callee owns it then. `share`: one payload, frozen
//! once. `lend`: one payload that stays this function's; the node copies it before it goes to another one. The last byte is
//! another for each call that moves its payload, and the callee says which it saw.
//!
//! `/scatter` hands out parts of one frozen payload, all at once.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use baton::{Buffer, Context, Error, Reply, Request, Response, Shared, monotonic_ns};

const REPLY_BYTES: usize = 64;
const PAYLOAD_MAX: usize = 128 << 20;
const ITERATIONS_MAX: usize = 100_000;
const WARM_UP_MAX: usize = 20;
const PARTS_MAX: usize = 128;
/// A request whose calls have taken this long makes no more of them.
const TIME_MAX_MS: usize = 30_000;

fn main() -> ExitCode {
    baton::serve(time_calls)
}

/// What was measured of one call.
struct Trip {
    whole_ns: u64,
    /// From the call to the first touch of the last byte.
    touch_ns: u64,
}

async fn time_calls(ctx: Context, request: Request) -> Result<Response, Error> {
    let payload = number(&request, "payload", 4096)?.clamp(1, PAYLOAD_MAX);
    let iterations = number(&request, "iterations", 100)?.clamp(1, ITERATIONS_MAX);
    let within = number(&request, "within", TIME_MAX_MS)?.min(TIME_MAX_MS);
    let within = Duration::from_millis(within as u64);
    let warm_up = (iterations / 10).clamp(1, WARM_UP_MAX);
    let trips = if request.path() == "/scatter" {
        let parts = number(&request, "parts", 100)?.clamp(1, PARTS_MAX.min(payload));
        let shared = filled(&ctx, payload, 1)?.freeze();
        scattered(&ctx, &shared, parts, (warm_up, within)).await?;
        scattered(&ctx, &shared, parts, (iterations, within)).await?
    } else {
        let callee = parameter(&request, "to").unwrap_or("callee");
        let mode = parameter(&request, "mode").unwrap_or("move");
        let caller = Caller { ctx: &ctx, callee, payload, within };
        caller.times(mode, warm_up).await?;
        caller.times(mode, iterations).await?
    };
    let mut body = ctx.alloc(512)?;
    write!(body, "{}", summary(&trips)).map_err(|_| Error::new(500, "the summary is too long"))?;
    Ok(Response::ok(body).header("content-type", "application/json"))
}

/// A payload whose pages are there, and its last byte as given.
fn filled(ctx: &Context, payload: usize, last: u8) -> Result<Buffer, Error> {
    let mut buffer = ctx.zeroed(payload)?;
    buffer[payload - 1] = last;
    Ok(buffer)
}

struct Caller<'a> {
    ctx: &'a Context,
    callee: &'a str,
    payload: usize,
    within: Duration,
}

impl Caller<'_> {
    async fn times(&self, mode: &str, count: usize) -> Result<Vec<Trip>, Error> {
        let mut trips = Vec::with_capacity(count);
        // Making payloads takes its time as well.
        let begun = Instant::now();
        let count = (0..count).take_while(|round| *round == 0 || begun.elapsed() < self.within);
        match mode {
            "move" => {
                for round in count {
                    let last = u8::try_from(round % 256).unwrap_or(0);
                    let payload = filled(self.ctx, self.payload, last)?;
                    let began_ns = monotonic_ns();
                    let reply = self.ctx.call(self.callee, payload).await?;
                    trips.push(trip(began_ns, &reply, last)?);
                }
            }
            "share" => {
                let payload = filled(self.ctx, self.payload, 7)?.freeze();
                for _ in count {
                    let began_ns = monotonic_ns();
                    let reply = self.ctx.call(self.callee, &payload).await?;
                    trips.push(trip(began_ns, &reply, 7)?);
                }
            }
            "lend" => {
                let payload = filled(self.ctx, self.payload, 7)?;
                for _ in count {
                    let began_ns = monotonic_ns();
                    let reply = self.ctx.call(self.callee, &payload).await?;
                    trips.push(trip(began_ns, &reply, 7)?);
                }
            }
            other => return Err(Error::new(400, format!("mode is move, share or lend, not {other}"))),
        }
        Ok(trips)
    }
}

fn trip(began_ns: u64, reply: &Reply, last: u8) -> Result<Trip, Error> {
    let whole_ns = monotonic_ns().saturating_sub(began_ns);
    let touched_ns = touched(reply, last)?;
    Ok(Trip { whole_ns, touch_ns: touched_ns.saturating_sub(began_ns) })
}

/// When the callee touched the last byte, which has to be `last`.
fn touched(reply: &Reply, last: u8) -> Result<u64, Error> {
    let body = reply.body();
    if body.len() != REPLY_BYTES || body[8] != last {
        return Err(Error::new(500, format!("a reply of {} bytes, or of another payload", body.len())));
    }
    let stamp = body[..8].try_into().unwrap_or_default();
    Ok(u64::from_le_bytes(stamp))
}

async fn scattered(
    ctx: &Context,
    shared: &Shared,
    parts: usize,
    (count, within): (usize, Duration),
) -> Result<Vec<Trip>, Error> {
    let each = shared.len() / parts;
    let mut trips = Vec::with_capacity(count);
    let begun = Instant::now();
    for _ in (0..count).take_while(|round| *round == 0 || begun.elapsed() < within) {
        let ranges = (0..parts).map(|part| part * each..(part + 1) * each);
        let began_ns = monotonic_ns();
        let answers = ctx.scatter("callee", shared, ranges).await?;
        let whole_ns = monotonic_ns().saturating_sub(began_ns);
        let mut touched_ns = began_ns;
        for (part, answer) in answers.into_iter().enumerate() {
            // Only the last part ends with the byte that was written.
            let last = u8::from((part + 1) * each == shared.len());
            touched_ns = touched_ns.max(touched(&answer?, last)?);
        }
        trips.push(Trip { whole_ns, touch_ns: touched_ns - began_ns });
    }
    Ok(trips)
}

fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let pairs = request.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn number(request: &Request, name: &str, default: usize) -> Result<usize, Error> {
    let Some(text) = parameter(request, name) else { return Ok(default) };
    text.parse().map_err(|_| Error::new(400, format!("{name} is a number, not {text}")))
}

fn summary(trips: &[Trip]) -> String {
    let mut nanos: Vec<u64> = trips.iter().map(|trip| trip.whole_ns).collect();
    let mut touches: Vec<u64> = trips.iter().map(|trip| trip.touch_ns).collect();
    nanos.sort_unstable();
    touches.sort_unstable();
    let last = nanos.len().saturating_sub(1);
    let at = |percent: usize| nanos.get(last * percent / 100).copied().unwrap_or(0);
    let mean = nanos.iter().sum::<u64>() / nanos.len().max(1) as u64;
    format!(
        r#"{{"p50_ns":{},"p95_ns":{},"p99_ns":{},"mean_ns":{mean},"min_ns":{},"touch_ns":{}}}"#,
        at(50),
        at(95),
        at(99),
        at(0),
        touches.get(last / 2).copied().unwrap_or(0)
    )
}
