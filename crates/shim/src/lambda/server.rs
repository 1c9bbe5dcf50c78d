//! The Lambda Runtime API: a thread for each connection of the program.

use std::cell::Cell;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::desk::{Desk, Job};
use super::outcome::{Delivery, Failure};
use super::wire::{BODY_BYTES_MAX, Framing, Head, Inbox, Method};

/// Where AWS has it, and programs that do not ask look for it.
const PORT: u16 = 9001;
/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Largest error that a program may tell.
const ERROR_BYTES_MAX: u64 = 1 << 20;
/// How often a connection is looked at for the rest of a request before its thread sleeps. Clients send head and body in two parts: to
/// sleep and be woken in between takes longer than the second takes to come.
const LOOKS: usize = 12;
/// Events up to this length go in one piece with their heads; longer ones are not copied.
const SMALL_BYTES: usize = 64 << 10;
/// More than the last line of an event's head takes.
const DEADLINE_BYTES_MAX: usize = 64;
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
    match (head.method, path.strip_prefix("invocation/")) {
        (Method::Get, Some("next")) => Some(Wish::Next),
        (Method::Post, Some(rest)) => match rest.split_once('/')? {
            (id, "response") => Some(Wish::Response(id)),
            (id, "error") => Some(Wish::Error(id)),
            _ => None,
        },
        (Method::Post, None) if path == "init/error" => Some(Wish::InitError),
        _ => None,
    }
}

/// A connection. For the rest of a request it is looked at a few times, with whoever can run going first.
struct Attended<'a> {
    stream: &'a TcpStream,
    in_request: &'a Cell<bool>,
}

impl Read for Attended<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for _ in 0..if self.in_request.get() { LOOKS } else { 0 } {
            match recv(self.stream, &mut *into, RecvFlags::DONTWAIT) {
                Ok((_, count)) => return Ok(count),
                Err(Errno::AGAIN) => thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        (&mut &*self.stream).read(into)
    }
}

/// Answers a connection's requests until it ends.
fn serve(stream: &TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let start = desk.lock().start;
    let in_request = Cell::new(false);
    let mut inbox = Inbox::new(Attended { stream, in_request: &in_request });
    while let Some(head) = inbox.head()? {
        in_request.set(true);
        let Some(framing) = head.framing else {
            return refuse(stream, 400, "InvalidRequest", "a content-length that is none");
        };
        if head.awaits_continue {
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
        in_request.set(false);
    }
    Ok(())
}

/// An error as its caller sees it: the body, or what the header says if there is none.
fn told(body: Vec<u8>, head: &Head) -> Failure {
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body).is_ok() {
        return Failure::told(body);
    }
    let kind = head.error_type.as_deref().unwrap_or("Runtime.Unknown");
    Failure::new(kind, &String::from_utf8_lossy(&body))
}

/// Gives the program an event.
fn give(mut stream: &TcpStream, job: &Job, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let deadline_ms = (now + left).as_millis();
    let mut bytes = Vec::with_capacity(job.head.len() + DEADLINE_BYTES_MAX + job.body.len().min(SMALL_BYTES));
    bytes.extend_from_slice(job.head.as_bytes());
    write!(bytes, "Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\r\n")?;
    if job.body.len() <= SMALL_BYTES {
        bytes.extend_from_slice(&job.body);
        return stream.write_all(&bytes);
    }
    stream.write_all(&bytes)?;
    stream.write_all(&job.body)
}

/// Takes an answer; one that is whole is given back, to be delivered, and others are delivered as they come.
fn answered(
    inbox: &mut Inbox<Attended<'_>>,
    head: &Head,
    framing: Framing,
    job: &Job,
) -> io::Result<Option<Delivery>> {
    let content_type = head.content_type.clone();
    if !head.is_streaming {
        let body = inbox.body(framing, BODY_BYTES_MAX).inspect_err(|_| cut(job))?;
        return Ok(Some(Delivery::Whole(body, content_type)));
    }
    job.slot.deliver(Delivery::Begin(content_type));
    let part = |part: &[u8]| {
        // A caller that has left is no reason to stop a program in the middle of its answer.
        job.slot.deliver(Delivery::Part(part.to_vec()));
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
