//! `baton events`: calls that nobody waits for.

use std::path::Path;

use baton_control::protocol::EventReply;
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::talk;
use crate::cli::{EventArgs, EventsArgs, EventsVerb};
use crate::client::{escaped, parse};
use crate::failure::Failure;
use crate::output::{json_out, line_out, print_table, table};

#[derive(Debug, Deserialize)]
struct Reply {
    queues: Vec<Queue>,
    dead: Vec<Dead>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    app: String,
    function: String,
    waiting: u32,
    running: u32,
    done: u64,
    retried: u64,
    dead: u64,
    oldest_s: u64,
}

#[derive(Debug, Deserialize)]
struct Dead {
    event: String,
    app: String,
    function: String,
    attempts: u32,
    error: String,
}

pub(super) fn run(home: &Path, args: &EventsArgs) -> Result<(), Failure> {
    match &args.verb {
        None => list(home, args.output.json),
        Some(EventsVerb::Retry(args)) => retry(home, args),
        Some(EventsVerb::Drop(args)) => drop_one(home, args),
    }
}

fn list(home: &Path, as_json: bool) -> Result<(), Failure> {
    let answer = talk(home, async |client| client.call(Method::GET, "/v1/events", Bytes::new()).await)?;
    if as_json {
        return json_out(&parse::<Value>(&answer)?);
    }
    let Reply { queues, dead } = parse(&answer)?;
    if queues.is_empty() && dead.is_empty() {
        return line_out("no events; `baton invoke --event APP/FUNCTION` makes one");
    }
    let row = |queue: Queue| {
        let Queue { app, function, waiting, running, done, retried, dead, oldest_s } = queue;
        let oldest = if waiting == 0 { "-".to_owned() } else { format!("{oldest_s} s") };
        let counts = [waiting.to_string(), running.to_string(), done.to_string(), retried.to_string()];
        let row = std::iter::once(format!("{app}/{function}")).chain(counts);
        row.chain([dead.to_string(), oldest]).collect::<Vec<_>>()
    };
    let head = ["FUNCTION", "WAITING", "RUNNING", "DONE", "RETRIED", "DEAD", "OLDEST"];
    print_table(&table(&head, queues.into_iter().map(row)))?;
    if dead.is_empty() {
        return Ok(());
    }
    line_out("")?;
    let row = |Dead { event, app, function, attempts, error }: Dead| {
        vec![event, format!("{app}/{function}"), attempts.to_string(), error]
    };
    print_table(&table(&["CAME TO NOTHING", "FUNCTION", "ATTEMPTS", "LAST ERROR"], dead.into_iter().map(row)))
}

fn retry(home: &Path, args: &EventArgs) -> Result<(), Failure> {
    let path = format!("/v1/dead/{}", escaped(&args.event));
    let answer = talk(home, async |client| client.call(Method::POST, &path, Bytes::new()).await)?;
    let EventReply { event } = parse(&answer)?;
    if args.output.json {
        return json_out(&EventReply { event });
    }
    line_out(&format!("{} is tried anew as {event}", args.event))
}

fn drop_one(home: &Path, args: &EventArgs) -> Result<(), Failure> {
    let path = format!("/v1/dead/{}", escaped(&args.event));
    talk(home, async |client| client.call(Method::DELETE, &path, Bytes::new()).await)?;
    if args.output.json {
        return json_out(&json!({ "dropped": args.event }));
    }
    line_out(&format!("dropped {}", args.event))
}
