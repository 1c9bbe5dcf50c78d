//! Functions whose answers and requests are streams.

use std::time::Duration;

use baton::{Context, Error, Event, Level, Request, Response};

fn number(request: &Request, name: &str) -> Option<u64> {
    let pairs = request.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1.parse().ok()
}

/// Says in the log that it ended, however it did.
struct Farewell(Context, &'static str);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.log(Level::Info, format_args!("{} is over", self.1));
    }
}

/// Answers with so many `parts` of `bytes` each, the number of each in all of its bytes, `every` so many milliseconds; it fails
/// behind the part `fail`.
pub(crate) async fn streamer(ctx: Context, request: Request) -> Result<Response, Error> {
    let _farewell = Farewell(ctx.clone(), "streamer");
    let parts = number(&request, "parts").unwrap_or(3);
    let bytes = usize::try_from(number(&request, "bytes").unwrap_or(10)).unwrap_or(1);
    let (every, fail) = (number(&request, "every"), number(&request, "fail"));
    let head = Response::ok(()).status(201).header("x-kind", "parts");
    let mut out = ctx.stream(&request, head).await?;
    for part in 0..parts {
        let mut buffer = ctx.alloc(bytes)?;
        let digit = b'a' + u8::try_from(part % 26).unwrap_or(0);
        for _ in 0..bytes {
            buffer.extend_from_slice(&[digit])?;
        }
        out.send(buffer).await?;
        if fail == Some(part) {
            return Err(Error::new(500, "on purpose"));
        }
        if let Some(every) = every {
            out.pause(Duration::from_millis(every)).await?;
        }
    }
    out.end()
}

/// Sends back what it gets, part by part, while it gets it.
pub(crate) async fn mirror(ctx: Context, request: Request) -> Result<Response, Error> {
    let mut out = ctx.stream(&request, Response::ok(())).await?;
    let mut parts = ctx.parts(request);
    while let Some(part) = parts.next().await? {
        out.send(part).await?;
    }
    out.end()
}

/// Counts the bytes and parts that it gets, and answers whole.
pub(crate) async fn counter(ctx: Context, request: Request) -> Result<Response, Error> {
    let _farewell = Farewell(ctx.clone(), "counter");
    let slowly = number(&request, "slowly").is_some();
    let mut parts = ctx.parts(request);
    let (mut count, mut bytes) = (0u64, 0u64);
    while let Some(part) = parts.next().await? {
        count += 1;
        bytes += part.len() as u64;
        if slowly {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(Response::ok(format!("{count} {bytes}")))
}

/// Sends an event `every` so many milliseconds, so many `events`, or until the client leaves.
pub(crate) async fn ticker(ctx: Context, request: Request) -> Result<Response, Error> {
    let _farewell = Farewell(ctx.clone(), "ticker");
    let every = Duration::from_millis(number(&request, "every").unwrap_or(20));
    let most = number(&request, "events").unwrap_or(u64::MAX);
    let mut events = ctx.events(&request).await?;
    for tick in 0..most {
        events.send(Event::data(&format!("tick {tick}")).name("tick").id(&tick.to_string())).await?;
        events.pause(every).await?;
    }
    events.end()
}

/// Talks over a WebSocket: sends back what it gets, and does what some texts say.
pub(crate) async fn talker(ctx: Context, request: Request) -> Result<Response, Error> {
    let _farewell = Farewell(ctx.clone(), "talker");
    if request.header("origin") == Some("https://evil.example") {
        return Ok(Response::ok("not from there").status(403));
    }
    let head = Response::empty().header("sec-websocket-protocol", "talk");
    let mut socket = ctx.websocket(&request, head).await?;
    while let Some(message) = socket.receive().await? {
        match message.text() {
            Some("close") => return socket.close(3001, "as you wish").await,
            Some("end") => return socket.end(),
            Some("fail") => return Err(Error::new(500, "on purpose")),
            Some("big") => socket.send(vec![7; 1 << 20]).await?,
            Some(text) => socket.send_text(text).await?,
            None => match message.into_body() {
                Ok(body) => socket.send(body).await?,
                Err(_) => socket.send(()).await?,
            },
        }
    }
    ctx.log(Level::Info, format_args!("closed by {:?}", socket.close_code()));
    socket.end()
}

/// Does what it may not with a stream; answers with what came of each.
pub(crate) async fn meddler(ctx: Context, request: Request) -> Result<Response, Error> {
    use baton::Payload;
    let ask = |operation: u16, payload: Payload<'static>| ctx.call("@streams", payload).operation(operation);
    let mut told = String::new();
    // A part before the head, messages without a WebSocket, nonsense, a status that is none, another's stream.
    for operation in [1, 2, 4, 5, 6, 99, 100, 101, 102, 199, 600, 65_535] {
        let outcome = ask(operation, Payload::from("x")).await;
        told.push_str(&format!("{operation} {}\n", outcome.err().map_or(0, |error| error.status())));
    }
    if request.path().ends_with("/begin") {
        ask(200, Payload::Empty).await?;
        let again = ask(200, Payload::Empty).await;
        told.push_str(&format!("again {}\n", again.err().map_or(0, |error| error.status())));
        ask(1, Payload::from(told)).await?;
        // Many parts at once, of which nobody waits for the last.
        let flood = (0..300).map(|_| ask(1, Payload::from("flood\n"))).collect::<Vec<_>>();
        let outcomes = ctx.join(flood).await;
        let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        ask(1, Payload::from(format!("taken {taken}\n"))).await?;
        drop(ask(3, Payload::Empty));
        return Ok(Response::ok("behind the end"));
    }
    Ok(Response::ok(told))
}

/// Answers with the identity of its client.
pub(crate) async fn identity(_: Context, request: Request) -> Result<Response, Error> {
    Ok(Response::ok(format!("identity={}\n", request.identity().unwrap_or("-"))))
}

/// Calls the streamer and says what it got.
pub(crate) async fn caller(ctx: Context, _: Request) -> Result<Response, Error> {
    let next = std::env::var("NEXT").unwrap_or_default();
    let reply = ctx.call(&next, ()).query("parts=4&bytes=5").await?;
    Ok(Response::ok(format!("{} {}", reply.status(), String::from_utf8_lossy(reply.body()))))
}
