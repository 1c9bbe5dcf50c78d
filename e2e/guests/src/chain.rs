//! Functions that call others. `NEXT` in the environment names whom, separated by commas.
//!
//! The first step takes what to do from the query, and tells the next ones by the operation.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use baton::{Call, Context, Error, Request, Response, Shared};

const MOVE: u16 = 1;
const LEND: u16 = 2;
const SHARE: u16 = 3;
const FAIL: u16 = 4;
const LEND_AND_ECHO: u16 = 5;
const STALL: u16 = 6;
const LEND_AND_STALL: u16 = 7;
const DIE: u16 = 8;
const SPIN: u16 = 9;
const REFUSE: u16 = 10;
const UNDECLARED: u16 = 11;
const GIVE_UP: u16 = 14;
/// For functions without the pool: try to allocate, try to answer at length.
pub(crate) const ALLOC: u16 = 12;
pub(crate) const LONG: u16 = 13;

/// How long a caller waits for a step that spins, when it is to give up early.
const SHORT: Duration = Duration::from_millis(50);

/// How long a stalled step stands still.
const STALL_TIME: Duration = Duration::from_millis(1500);

fn operation(request: &Request) -> u16 {
    match request.query() {
        Some("move") => MOVE,
        Some("lend") => LEND,
        Some("share") => SHARE,
        Some("fail") => FAIL,
        Some("lend-and-echo") => LEND_AND_ECHO,
        Some("stall") => STALL,
        Some("lend-and-stall") => LEND_AND_STALL,
        Some("die") => DIE,
        Some("spin") => SPIN,
        Some("refuse") => REFUSE,
        Some("undeclared") => UNDECLARED,
        Some("give-up") => GIVE_UP,
        Some("alloc") => ALLOC,
        Some("long") => LONG,
        _ if request.operation() == 0 => MOVE,
        _ => request.operation(),
    }
}

fn next() -> String {
    std::env::var("NEXT").unwrap_or_default()
}

/// Hands the payload to the next step and answers with what that answers.
pub(crate) async fn relay(ctx: Context, request: Request) -> Result<Response, Error> {
    let (operation, next) = (operation(&request), next());
    if operation == UNDECLARED {
        ctx.call("nobody", ()).await?;
    }
    if request.body().is_empty() {
        let reply = ctx.call(&next, ()).operation(operation).await?;
        return Ok(Response::ok(reply.body().to_vec()));
    }
    let body = request.into_body()?;
    let reply = match operation {
        LEND | LEND_AND_ECHO | LEND_AND_STALL => ctx.call(&next, &body).operation(operation).await?,
        SHARE => ctx.call(&next, body.into_shared()?).operation(operation).await?,
        GIVE_UP => ctx.call(&next, body).operation(SPIN).timeout(SHORT).await?,
        _ => ctx.call(&next, body).operation(operation).await?,
    };
    let status = reply.status();
    Ok(Response::ok(reply.into_body()?).status(status))
}

/// Ends a chain.
pub(crate) async fn last(ctx: Context, request: Request) -> Result<Response, Error> {
    match operation(&request) {
        FAIL => return Err(Error::new(500, "the shelf is empty")),
        REFUSE => return Err(Error::new(422, "that is no order")),
        STALL | LEND_AND_STALL => std::thread::sleep(STALL_TIME),
        DIE => std::process::abort(),
        SPIN => crate::unruly::spin(),
        LEND | SHARE => {
            let mut answer = ctx.alloc(32)?;
            answer.extend_from_slice(request.body().len().to_string().as_bytes())?;
            return Ok(Response::ok(answer));
        }
        _ => {}
    }
    if request.body().is_empty() {
        return Ok(Response::ok("nothing"));
    }
    Ok(Response::ok(request.into_body()?))
}

fn told(call: Call<'_>) -> Call<'_> {
    call.method("PATCH").path("/told/%20x").query("a=b").header("X-Told", "once").header("x-told", "twice")
}

/// Tells the next step more than a payload, which it hands on as the query says; answers with what that step says of it, a
/// line for each header of its answer, and the payload if it still has it.
pub(crate) async fn herald(ctx: Context, request: Request) -> Result<Response, Error> {
    let (how, next) = (request.query().unwrap_or_default().to_owned(), next());
    let mut kept = ctx.alloc(request.body().len())?;
    kept.extend_from_slice(request.body())?;
    let reply = match how.as_str() {
        "move" => told(ctx.call(&next, request.into_body()?)).await?,
        "lend" => told(ctx.call(&next, &request.into_body()?)).await?,
        "lend-mutably" => told(ctx.call(&next, &mut kept)).await?,
        "share" => told(ctx.call(&next, request.into_body()?.into_shared()?)).await?,
        "bytes" => told(ctx.call(&next, request.body())).await?,
        _ => told(ctx.call(&next, ())).await?,
    };
    let mut answer = reply.body().to_vec();
    for (name, value) in reply.headers() {
        answer.extend_from_slice(format!("answered:{name}={}\n", String::from_utf8_lossy(value)).as_bytes());
    }
    answer.extend_from_slice(format!("status={}\nkept={}\n", reply.status(), kept.len()).as_bytes());
    Ok(Response::ok(answer))
}

/// Shares the payload with every function in `NEXT` at once and joins their answers with `+`.
pub(crate) async fn fan(ctx: Context, request: Request) -> Result<Response, Error> {
    let names = next();
    let shared = request.into_body()?.into_shared()?;
    let calls = names.split(',').map(|name| ctx.call(name, &shared).operation(SHARE));
    let mut answer = ctx.alloc(256)?;
    for (place, reply) in ctx.join(calls.collect::<Vec<_>>()).await.into_iter().enumerate() {
        if place > 0 {
            answer.extend_from_slice(b"+")?;
        }
        answer.extend_from_slice(reply?.body())?;
    }
    Ok(Response::ok(answer))
}

/// How long a worker works.
const WORK_TIME: Duration = Duration::from_millis(2);

/// Has four workers work on the payload at once; says which processes they were in, and how much each got.
pub(crate) async fn crowd(ctx: Context, request: Request) -> Result<Response, Error> {
    let shared = request.into_body()?.into_shared()?;
    let calls = (0..4).map(|_| ctx.call("worker", &shared));
    let mut answer = ctx.alloc(256)?;
    for reply in ctx.join(calls.collect::<Vec<_>>()).await {
        answer.extend_from_slice(reply?.body())?;
        answer.extend_from_slice(b"\n")?;
    }
    Ok(Response::ok(answer))
}

/// Works for a while; says in which process, and how much it got.
pub(crate) async fn worker(_ctx: Context, request: Request) -> Result<Response, Error> {
    // Chosen at the first request: a copy of this process has another.
    static PROCESS: OnceLock<u64> = OnceLock::new();
    let process = PROCESS.get_or_init(|| RandomState::new().hash_one(0));
    let began = Instant::now();
    while began.elapsed() < WORK_TIME {
        std::hint::spin_loop();
    }
    Ok(Response::ok(format!("{process:016x} {}", request.body().len())))
}

thread_local! {
    static KEPT: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Keeps a frozen payload between requests, answers with it, revokes it.
pub(crate) async fn sharer(_ctx: Context, request: Request) -> Result<Response, Error> {
    match request.path() {
        "/keep" => {
            let shared = request.into_body()?.into_shared()?;
            KEPT.set(Some(shared));
            Ok(Response::ok("kept"))
        }
        "/read" => match KEPT.with_borrow(Clone::clone) {
            Some(shared) => Ok(Response::ok(shared)),
            None => Err(Error::new(404, "nothing is kept")),
        },
        "/forget" => {
            KEPT.set(None);
            Ok(Response::ok("gone"))
        }
        _ => Err(Error::new(404, "keep, read, forget")),
    }
}
