//! A function of events: it does nothing before it is opened, and remembers which it has done.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use baton::{Context, Error, Level, Request, Response};

/// How long a closed function keeps who comes.
const CLOSED_TIME: Duration = Duration::from_millis(300);

thread_local! {
    static IS_OPEN: Cell<bool> = const { Cell::new(false) };
    static DONE: RefCell<BTreeMap<u32, u32>> = RefCell::default();
}

/// `/open` opens it, `/done` says how often it has done what; a body with a number is to be done, one with a word is refused.
pub(crate) async fn tally(ctx: Context, request: Request) -> Result<Response, Error> {
    match request.path() {
        "/open" => {
            IS_OPEN.set(true);
            return Ok(Response::ok("open"));
        }
        "/done" => {
            let lines: String = DONE.with_borrow(|done| {
                done.iter().map(|(number, times)| format!("{number} {times}\n")).collect()
            });
            let mut answer = ctx.alloc(lines.len())?;
            answer.extend_from_slice(lines.as_bytes())?;
            return Ok(Response::ok(answer));
        }
        _ => {}
    }
    if !IS_OPEN.get() {
        std::thread::sleep(CLOSED_TIME);
        return Err(Error::new(503, "not open yet"));
    }
    let number = std::str::from_utf8(request.body()).ok().and_then(|text| text.parse().ok());
    let Some(number) = number else { return Err(Error::new(422, "that is no number")) };
    let header = |name: &str| request.header(name).unwrap_or("-").to_owned();
    ctx.log(
        Level::Info,
        format!(
            "did {number} at attempt {} of event {}; {} failed {} times: {}",
            header("x-baton-attempt"),
            header("x-baton-event").len(),
            header("x-baton-failed-function"),
            header("x-baton-failed-attempts"),
            header("x-baton-failed-error"),
        ),
    );
    DONE.with_borrow_mut(|done| *done.entry(number).or_default() += 1);
    Ok(Response::ok("done"))
}

/// Tells the log of the CloudEvent that it is given, and answers it with one; `plain` and `bad` are types that get something else.
pub(crate) async fn listener(ctx: Context, request: Request) -> Result<Response, Error> {
    let Some(event) = request.cloud_event() else { return Err(Error::new(400, "that is no event")) };
    let (id, subject) = (event.id().into_owned(), event.subject().unwrap_or_default().into_owned());
    let data = String::from_utf8_lossy(event.data()).into_owned();
    let kind = event.content_type().unwrap_or("-").to_owned();
    let known = request.header("authorization").is_some();
    ctx.log(
        Level::Info,
        format!("heard {} {id} of {} about {subject}: {kind} {data} {known}", event.kind(), event.source()),
    );
    match &*event.kind() {
        "bad" => return Err(Error::new(422, "not this one")),
        "plain" => return Ok(Response::ok("heard")),
        _ => {}
    }
    let mut answer = ctx.alloc(data.len())?;
    answer.extend_from_slice(data.as_bytes())?;
    let response = Response::ok(answer).cloud_event(&format!("re {id}"), "/listener", "answer");
    Ok(response.event_attribute("subject", &subject).header("content-type", kind).header("x-kept", "yes"))
}
