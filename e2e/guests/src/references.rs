//! Functions that put payloads up for others, get them, and hand out parts of one to many.

use std::time::Duration;

use baton::{Context, Error, Level, Put, Reference, Request, Response};

fn number(request: &Request, name: &str) -> Option<u64> {
    let pairs = request.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1.parse().ok()
}

fn told(mut put: Put<'_>, (readers, ttl): (Option<u64>, Option<u64>)) -> Put<'_> {
    if let Some(readers) = readers {
        put = put.readers(u32::try_from(readers).unwrap_or(u32::MAX));
    }
    match ttl {
        Some(ttl) => put.ttl(Duration::from_millis(ttl)),
        None => put,
    }
}

/// Puts its payload up as the query says (`readers`, `ttl` in milliseconds, `how` by the path's end); answers with the reference.
pub(crate) async fn keeper(ctx: Context, request: Request) -> Result<Response, Error> {
    let (readers, ttl) = (number(&request, "readers"), number(&request, "ttl"));
    let how = request.path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body()?;
    let terms = (readers, ttl);
    let reference = match how.as_str() {
        "lent" => told(ctx.put(&body), terms).await?,
        "shared" => told(ctx.put(body.into_shared()?), terms).await?,
        "revoked" => {
            let shared = body.into_shared()?;
            let reference = told(ctx.put(&shared), terms).await?;
            shared.revoke();
            reference
        }
        _ => told(ctx.put(body), terms).await?,
    };
    Ok(Response::ok(reference.to_string()))
}

fn named(request: &Request) -> Result<Reference, Error> {
    let text = std::str::from_utf8(request.body()).unwrap_or_default();
    text.parse().map_err(|_| Error::new(400, "that is no reference"))
}

/// Gets what is behind the reference that it is sent; answers with it, or with its length and sum.
pub(crate) async fn getter(ctx: Context, request: Request) -> Result<Response, Error> {
    let body = ctx.get(&named(&request)?).await?;
    if request.path().ends_with("/whole") {
        return Ok(Response::ok(body.to_vec()));
    }
    Ok(Response::ok(format!("{} {}", body.len(), total(&body))))
}

/// Takes down what is behind the reference that it is sent.
pub(crate) async fn forgetter(ctx: Context, request: Request) -> Result<Response, Error> {
    Ok(Response::ok(ctx.forget(&named(&request)?).await?.to_string()))
}

/// Has `NEXT` add up the bytes of each of so many `parts` of its payload; answers with the sums, eight bytes each.
pub(crate) async fn scatterer(ctx: Context, request: Request) -> Result<Response, Error> {
    let next = std::env::var("NEXT").unwrap_or_default();
    let parts = usize::try_from(number(&request, "parts").unwrap_or(1)).unwrap_or(1).max(1);
    let shared = request.into_body()?.into_shared()?;
    let each = shared.len() / parts;
    let answers = ctx.scatter(&next, &shared, (0..parts).map(|part| part * each..(part + 1) * each)).await?;
    Ok(Response::ok(ctx.gather(answers)?))
}

/// The sum of the bytes that it is sent.
pub(crate) async fn adder(ctx: Context, request: Request) -> Result<Response, Error> {
    Ok(Response::ok(ctx.value(&total(request.body()))?))
}

/// Takes its time, and notes in the log what it was sent.
pub(crate) async fn recorder(ctx: Context, request: Request) -> Result<Response, Error> {
    std::thread::sleep(Duration::from_millis(700));
    ctx.log(Level::Info, format_args!("recorded {} {}", request.body().len(), total(request.body())));
    Ok(Response::ok("recorded"))
}

fn total(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}
