//! A function that asks the network.

use std::time::Duration;

use baton::{Context, Error, Request, Response};

/// Asks the URL in `x-url`, by the method in `x-method`, with the payload as `x-how` says and every header `out-NAME` as `NAME`.
/// Answers with status, headers and payload of what comes back.
pub(crate) async fn fetcher(ctx: Context, request: Request) -> Result<Response, Error> {
    let text = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let (url, how, method) = (text("x-url"), text("x-how"), text("x-method"));
    let mut kept = ctx.alloc(request.body().len())?;
    kept.extend_from_slice(request.body())?;
    let mut fetch = ctx.fetch(&url);
    for (name, value) in request.headers() {
        if let Some(name) = name.strip_prefix("out-") {
            fetch = fetch.header(name, value);
        }
    }
    if let Ok(ms) = text("x-timeout").parse() {
        fetch = fetch.timeout(Duration::from_millis(ms));
    }
    if !method.is_empty() {
        fetch = fetch.method(&method);
    }
    let body;
    let fetch = match how.as_str() {
        "move" => fetch.body(request.into_body()?),
        "lend" => {
            body = request.into_body()?;
            fetch.body(&body)
        }
        "lend-own" => fetch.body(&kept),
        "share" => fetch.body(request.into_body()?.into_shared()?),
        "bytes" => fetch.body(request.body().to_vec()),
        _ => fetch,
    };
    let reply = fetch.await?;
    let mut response = Response::empty().status(reply.status());
    for (name, value) in reply.headers() {
        response = response.header(&format!("in-{name}"), value);
    }
    if reply.body().is_empty() {
        return Ok(response);
    }
    Ok(response.body(reply.into_body()?))
}
