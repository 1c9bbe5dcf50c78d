//! The Lambda Runtime API: a thread for each connection of the program.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::desk::{Desk, Job};
use super::outcome::{Delivery, Failure};
use super::wire::{BODY_BYTES_MAX, Framing, Head, Inbox};

/// Where AWS has it, and programs that do not ask look for it.
const PORT: u16 = 9001;
/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Largest error that a program may tell.
const ERROR_BYTES_MAX: u64 = 1 << 20;
const ACCEPTED: &[u8] =
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n";

/// Listens from now on; says at which port.
pub(super) fn start(desk: &Arc<Desk>) -> io::Result<u16> {
    let at = |port| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    // Without a network of its own, a replica takes what is free: the program is told.
    let listener = at(PORT).or_else(|_| at(0))?;
    let port = listener.local_addr()?.port();
    let desk = Arc::clone(desk);
    thread::Builder::new().name("baton-runtime".to_owned()).spawn(move || accept(&listener, &desk))?;
    Ok(port)
}

fn accept(listener: &TcpListener, desk: &Arc<Desk>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (desk, counted) = (Arc::clone(desk), Arc::clone(&open));
        let serving = thread::Builder::new().name("baton-runtime".to_owned()).spawn(move || {
            let _ = serve(&stream, &desk);
            counted.fetch_sub(1, Ordering::AcqRel);
        });
        if serving.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What a request is about.
enum Wish<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
}

fn wish(head: &Head) -> Option<Wish<'_>> {
    let path = head.path.split('?').next().unwrap_or_default().strip_prefix("/2018-06-01/runtime/")?;
    let parts: Vec<&str> = path.split('/').collect();
    match (head.method.as_str(), parts.as_slice()) {
        ("GET", ["invocation", "next"]) => Some(Wish::Next),
        ("POST", ["invocation", id, "response"]) => Some(Wish::Response(id)),
        ("POST", ["invocation", id, "error"]) => Some(Wish::Error(id)),
        ("POST", ["init", "error"]) => Some(Wish::InitError),
        _ => None,
    }
}

/// Answers a connection's requests until it ends.
fn serve(stream: &TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let start = desk.lock().start;
    let mut inbox = Inbox::new(stream);
    while let Some(head) = inbox.head()? {
        let framing = match head.framing() {
            Ok(framing) => framing,
            Err(error) => return refuse(stream, 400, "InvalidRequest", &error.to_string()),
        };
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match wish(&head) {
            Some(Wish::Next) => {
                inbox.body(framing, ERROR_BYTES_MAX)?;
                let Some((job, until)) = desk.take(start) else { return Ok(()) };
                give(stream, &job, until)?;
            }
            Some(Wish::Response(id)) => match desk.running(id) {
                Some(job) => {
                    // It is watched over until all of the answer is here.
                    let taken = answered(&mut inbox, &head, framing, &job);
                    desk.finish(id);
                    let whole = taken?;
                    // First the program, which has more to do; then who waits for the answer.
                    let told = (&mut &*stream).write_all(ACCEPTED);
                    if let Some(whole) = whole {
                        job.slot.deliver(whole);
                    }
                    told?;
                }
                None => {
                    inbox.parts(framing, |_| Ok(()))?;
                    refuse(stream, 400, "InvalidRequestID", "Invalid request ID")?;
                }
            },
            Some(Wish::Error(id)) => {
                let body = inbox.body(framing, ERROR_BYTES_MAX)?;
                match desk.finish(id) {
                    Some(job) => {
                        job.slot.fail(told(body, &head));
                        (&mut &*stream).write_all(ACCEPTED)?;
                    }
                    None => refuse(stream, 400, "InvalidRequestID", "Invalid request ID")?,
                }
            }
            Some(Wish::InitError) => {
                let body = inbox.body(framing, ERROR_BYTES_MAX)?;
                desk.init_error(told(body, &head).body);
                (&mut &*stream).write_all(ACCEPTED)?;
            }
            None => {
                inbox.parts(framing, |_| Ok(()))?;
                refuse(stream, 404, "UnknownOperation", "the Runtime API (2018-06-01) has no such path")?;
            }
        }
    }
    Ok(())
}

/// An error as its caller sees it: the body, or what the header says if there is none.
fn told(body: Vec<u8>, head: &Head) -> Failure {
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body).is_ok() {
        return Failure::told(body);
    }
    let kind = head.header("lambda-runtime-function-error-type").unwrap_or("Runtime.Unknown");
    Failure::new(kind, &String::from_utf8_lossy(&body))
}

/// Gives the program an event.
fn give(mut stream: &TcpStream, job: &Job, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let deadline_ms = (now + left).as_millis();
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {}\r\n\
         Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\nContent-Length: {}\r\n",
        job.id,
        job.body.len()
    );
    for (name, value) in &*job.headers {
        head.push_str(name);
        head.push_str(": ");
        head.extend(value.chars().filter(|letter| !letter.is_control()));
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    // A small event goes in one segment with its head; a large one is not copied.
    if job.body.len() <= 64 << 10 {
        bytes.extend_from_slice(&job.body);
        return stream.write_all(&bytes);
    }
    stream.write_all(&bytes)?;
    stream.write_all(&job.body)
}

/// Takes an answer; one that is whole is given back, to be delivered, and others are delivered as they come.
fn answered(
    inbox: &mut Inbox<&TcpStream>,
    head: &Head,
    framing: Framing,
    job: &Job,
) -> io::Result<Option<Delivery>> {
    let content_type = head.header("content-type").map(str::to_owned);
    let is_streamed = head
        .header("lambda-runtime-function-response-mode")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("streaming"));
    if !is_streamed {
        let body = inbox.body(framing, BODY_BYTES_MAX).inspect_err(|_| cut(job))?;
        return Ok(Some(Delivery::Whole(body, content_type)));
    }
    job.slot.deliver(Delivery::Begin(content_type));
    let part = |part| {
        // A caller that has left is no reason to stop a program in the middle of its answer.
        job.slot.deliver(Delivery::Part(part));
        Ok(())
    };
    let trailers = inbox.parts(framing, part).inspect_err(|_| cut(job))?;
    let find = |name: &str| trailers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    match find("lambda-runtime-function-error-type") {
        None => job.slot.deliver(Delivery::End),
        Some(kind) => {
            let body = find("lambda-runtime-function-error-body").and_then(super::task::from_base64);
            let failure = body.map_or_else(|| Failure::new(kind, "the answer broke off"), Failure::told);
            job.slot.deliver(Delivery::Failed(failure))
        }
    };
    Ok(None)
}

fn cut(job: &Job) {
    job.slot.fail(Failure::new("Runtime.TruncatedResponse", "the program's answer broke off"));
}

fn refuse(mut stream: &TcpStream, status: u16, kind: &str, message: &str) -> io::Result<()> {
    let body = serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string();
    write!(
        stream,
        "HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
