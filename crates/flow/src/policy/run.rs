//! One request through the policies of its function.

use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::head::{Field, records};
use baton_policy::{Attempt, Chain, Client, Failed, Late, Outcome, Refusal, Request, Ticket, Trace};
use bytes::Buf;

use super::{ClientFacts, now, outcome_of, refused};
use crate::app::App;
use crate::elsewhere;
use crate::error::InvokeError;
use crate::invoke::{Head, Origin, Reply, Upload};
use crate::landing::Landing;
use crate::outlet::{Asked, Returned};
use crate::replica::Replica;
use crate::watch::{Traced, Wish};

/// How long a second attempt waits, times the attempts so far.
const PAUSE: Duration = Duration::from_millis(5);

/// Has a request's head pass, and begins its upload.
pub(crate) fn begin(
    app: &Rc<App>,
    function: usize,
    chain: &Rc<Chain>,
    (head, body_len): (&Head, Option<u64>),
    wish: Wish,
) -> Result<Upload, InvokeError> {
    let began = Instant::now();
    let client = Client { trace: wish.trace.map(trace_of), ..head.client.as_client() };
    let mut request = Request::of(&head.bytes, client);
    let (mut ticket, verdict) = chain.admit(&mut request, now(&app.node, chain, began));
    let begun = match verdict {
        Err(refusal) => Err(refused(refusal)),
        Ok(()) => {
            let function = target(app, &mut ticket, function);
            let changed = request.changed().map_err(|_| InvokeError::HeadTooLarge);
            let receipt = wish.receipt || app.node.watch.receipt_due();
            ticket.took_ns = (receipt || wish.trace.is_some()).then(|| nanos(began.elapsed()));
            changed.and_then(|changed| {
                let landing = match &changed {
                    Some(pieces) => Landing::in_pieces(app, pieces, body_len),
                    None => Landing::begin(app, head, body_len),
                }?;
                let mut upload = Upload::landed_since(began, app, function, landing, Origin::Here);
                upload.number = app.node.next_invocation();
                upload.wish = Wish { receipt, ..wish };
                Ok(upload)
            })
        }
    };
    match begun {
        Ok(mut upload) => {
            upload.ticket = Some(ticket);
            Ok(upload)
        }
        Err(error) => {
            ticket.end(outcome_of(&error));
            Err(error)
        }
    }
}

fn trace_of(Traced { context, parent }: Traced) -> Trace {
    Trace { trace: context.trace, span: context.span, parent }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The function that handlers lead to, which the app has: that was checked when they were set.
fn target(app: &App, ticket: &mut Ticket, function: usize) -> usize {
    let Some(to) = ticket.take_target() else { return function };
    app.functions.iter().position(|state| state.name.as_str() == to).unwrap_or(function)
}

/// The body is complete and the function is called next. Says whose node wants to know what its policies take, if one does.
pub(crate) fn prepare(upload: &mut Upload, ticket: &mut Ticket) -> Option<Rc<App>> {
    ticket.bytes_in = upload.landing.body_len();
    ticket.invocation = upload.number;
    if ticket.timeout().is_some() {
        let own = upload.app.functions.get(upload.function).map(|state| state.spec.timeout.duration());
        ticket.shorten(own.unwrap_or_default());
        upload.within = ticket.timeout();
    }
    ticket.took_ns.map(|_| Rc::clone(&upload.app))
}

/// The function has answered, or not: handlers change the answer, and hear of it.
pub(crate) fn conclude(
    measured: Option<Rc<App>>,
    mut ticket: Box<Ticket>,
    mut result: Result<Reply, InvokeError>,
) -> Result<Reply, InvokeError> {
    let began = measured.as_ref().map(|_| Instant::now());
    let outcome = match &mut result {
        Err(error) => {
            if let (InvokeError::DeadlineExceeded { after }, Some(time)) = (&mut *error, ticket.timeout()) {
                *after = time.min(*after);
            }
            outcome_of(error)
        }
        Ok(reply) => {
            ticket.change(&mut reply.head);
            ticket.answered = reply.invocation();
            let status = reply.status();
            let bytes_out = reply.body.remaining() as u64;
            Outcome { status, has_failed: Some(status >= 500), bytes_out }
        }
    };
    let (invocation, before) = (ticket.invocation, ticket.took_ns.unwrap_or(0));
    ticket.end(outcome);
    if let (Some(app), Some(began)) = (measured, began) {
        let took_ns = before.saturating_add(nanos(began.elapsed()));
        app.node.receipts.borrow_mut().policies_took(invocation, None, took_ns);
    }
    result
}

/// From the complete body to the answer, where late handlers or other attempts are between.
pub(crate) async fn finish(mut upload: Upload, mut ticket: Box<Ticket>) -> Result<Reply, InvokeError> {
    let measured = prepare(&mut upload, &mut ticket);
    let result = answered(upload, &mut ticket).await;
    conclude(measured, ticket, result)
}

async fn answered(mut upload: Upload, ticket: &mut Ticket) -> Result<Reply, InvokeError> {
    let (app, began) = (Rc::clone(&upload.app), Instant::now());
    let own = app.functions.get(upload.function).map_or(Duration::ZERO, |f| f.spec.timeout.duration());
    let time = ticket.timeout().map_or(own, |time| time.min(own));
    let late = ticket.late();
    if !late.is_empty() {
        upload = pass_late(upload, ticket, late, began + time).await?;
        upload.function = target(&app, ticket, upload.function);
        ticket.took_ns = ticket.took_ns.map(|before| before.saturating_add(nanos(began.elapsed())));
    }
    if ticket.timeout().is_none() && ticket.keeps().is_none() {
        return upload.run().await;
    }
    let result = attempts(upload, ticket, began + time).await;
    match result {
        Err(InvokeError::DeadlineExceeded { .. }) => {
            let after = if began.elapsed() < time { ticket.per_attempt().unwrap_or(time) } else { time };
            Err(InvokeError::DeadlineExceeded { after })
        }
        other => other,
    }
}

/// What is kept of a request so that it can be made again.
struct Kept {
    head: Vec<u8>,
    body: Vec<u8>,
    is_idempotent: bool,
}

async fn attempts(mut upload: Upload, ticket: &Ticket, until: Instant) -> Result<Reply, InvokeError> {
    let (app, function) = (Rc::clone(&upload.app), upload.function);
    let kept = ticket.keeps().filter(|_| upload.stream.is_none()).and_then(|most| {
        let head = upload.landing.head();
        let says_so = app.functions.get(function).is_some_and(|state| state.spec.idempotent);
        let is_idempotent = says_so || is_safe_twice(&head);
        Some(Kept { body: upload.landing.body(most)?, head, is_idempotent })
    });
    let mut made = 0;
    loop {
        made += 1;
        let left = until.saturating_duration_since(Instant::now());
        upload.within = Some(match &kept {
            Some(_) => ticket.per_attempt().map_or(left, |time| time.min(left)),
            None => left,
        });
        let result = upload.run().await;
        let (Some(kept), Some(failed)) = (&kept, failure(&result)) else { return result };
        let pause = PAUSE * made;
        let is_over = Instant::now() + pause >= until;
        let attempt = Attempt { made, is_idempotent: kept.is_idempotent };
        if is_over || !ticket.again(attempt, failed) {
            return result;
        }
        drop(result);
        tokio::time::sleep(pause).await;
        let head = Head { bytes: kept.head.clone(), client: ClientFacts::default() };
        upload = Upload::plain(&app, function, &head, Some(kept.body.len() as u64))?;
        upload.landing.write(&kept.body)?;
    }
}

/// Whether RFC 9110 says of the method that doing it twice is doing it once.
fn is_safe_twice(head: &[u8]) -> bool {
    let method = records(head).map_while(Result::ok).find(|record| record.field == Field::Method);
    let safe: [&[u8]; 6] = [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"];
    method.is_some_and(|record| safe.contains(&record.value))
}

/// How an attempt failed, if it did.
fn failure(result: &Result<Reply, InvokeError>) -> Option<Failed> {
    Some(match result {
        Ok(reply) if reply.status() >= 400 => Failed::Status(reply.status()),
        Ok(_) => return None,
        Err(error) => match error {
            InvokeError::PoolFull
            | InvokeError::QueueFull
            | InvokeError::NoReplica { .. }
            | InvokeError::NoNode { .. } => Failed::NotBegun,
            InvokeError::ReplicaDied { .. } | InvokeError::NodeLost { .. } | InvokeError::BadReply { .. } => {
                Failed::Died
            }
            InvokeError::DeadlineExceeded { .. } => Failed::Late,
            InvokeError::Function { .. } => Failed::Status(error.status()),
            InvokeError::Unknown
            | InvokeError::TooLarge { .. }
            | InvokeError::HeadTooLarge
            | InvokeError::NotKept { .. }
            | InvokeError::Refused(_)
            | InvokeError::Draining => Failed::ForGood,
        },
    })
}

/// Has the complete request pass the handlers that want its body, or another function's word.
async fn pass_late(
    mut upload: Upload,
    ticket: &mut Ticket,
    late: Vec<Late>,
    until: Instant,
) -> Result<Upload, InvokeError> {
    for each in late {
        let head = upload.landing.head();
        let mut request = Request::of(&head, Client::default());
        match each {
            Late::Body { at, bytes_max } => {
                let body = upload.landing.body(bytes_max);
                ticket.look(at, &request, body.as_deref()).map_err(refused)?;
            }
            Late::Ask { at, function } => {
                let (status, headers, words) = ask(&upload.app, &function, &head, until).await?;
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
                ticket.asked(at, &mut request, (status, headers, &words)).map_err(refused)?;
            }
        }
        if let Some(changed) = request.changed().map_err(|_| InvokeError::HeadTooLarge)? {
            let body = upload.landing.take_body();
            upload.landing = Landing::again(&upload.app, &changed, &body)?;
        }
    }
    Ok(upload)
}

type Said = (u16, Vec<(String, Vec<u8>)>, String);

/// Asks a function of the app, with the request's head and no body. Without an answer the request does not pass.
async fn ask(app: &Rc<App>, function: &str, head: &[u8], until: Instant) -> Result<Said, InvokeError> {
    let silent = || {
        let refusal = Refusal {
            status: 503,
            message: "the function that decides on requests does not answer; send it again".into(),
            retry_after: Some(1),
            challenge: None,
        };
        refused(refusal)
    };
    let place = app.functions.iter().position(|state| state.name.as_str() == function).ok_or_else(silent)?;
    let own = app.functions.get(place).map_or(Duration::ZERO, |state| state.spec.timeout.duration());
    let head = Head { bytes: head.to_vec(), client: ClientFacts::default() };
    let mut question = Upload::plain(app, place, &head, Some(0)).map_err(|_| silent())?;
    question.within = Some(own.min(until.saturating_duration_since(Instant::now())));
    match question.run().await {
        Ok(reply) => {
            let headers = reply.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            let status = reply.status();
            Ok((status, headers, reply.into_body().text()))
        }
        Err(InvokeError::Function { status, message }) => Ok((status, Vec::new(), message)),
        // A handler that loops, faults or dies is the app's failure, not the client's.
        Err(
            InvokeError::ReplicaDied { .. }
            | InvokeError::DeadlineExceeded { .. }
            | InvokeError::BadReply { .. },
        ) => Ok((500, Vec::new(), "the function that decides on requests failed".to_owned())),
        Err(_) => Err(silent()),
    }
}

/// A call of a function that leaves this node: passes those handlers of the callee that are for callers. The operation is its path
/// where the caller sends none.
pub(crate) async fn edge(replica: &Rc<Replica>, app: &Rc<App>, callee: usize, asked: Asked) -> Returned {
    let chain = app.functions.get(callee).and_then(|state| state.chain.borrow().clone());
    match chain {
        None => elsewhere::call_for(replica, app, callee, asked).await,
        // Apart, so that calls without policies do not carry the room for them about.
        Some(chain) => Box::pin(edge_of(replica, app, callee, asked, chain)).await,
    }
}

async fn edge_of(
    replica: &Rc<Replica>,
    app: &Rc<App>,
    callee: usize,
    mut asked: Asked,
    chain: Rc<Chain>,
) -> Returned {
    let mut head = Head::new();
    let has_path = records(&asked.head).map_while(Result::ok).any(|record| record.field == Field::Path);
    if !has_path {
        // A number always fits.
        let _ = head.add(Field::Path, "", format!("/{}", asked.operation).as_bytes());
    }
    head.bytes.extend_from_slice(&asked.head);
    let began = Instant::now();
    let client = Client { caller: Some(app.function_name(replica.function)), ..Client::default() };
    let mut request = Request::of(&head.bytes, client);
    let (mut ticket, verdict) = chain.admit(&mut request, now(&app.node, &chain, began));
    let took = asked.is_recorded.then(|| began.elapsed());
    ticket.bytes_in = asked.body.remaining() as u64;
    if let Err(refusal) = verdict {
        let error = refused(refusal);
        ticket.end(outcome_of(&error));
        return elsewhere::returned(app, error);
    }
    if let Some(time) = ticket.timeout() {
        asked.deadline = asked.deadline.min(Instant::now() + time);
    }
    ticket.invocation = asked.invocation;
    let invocation = asked.invocation;
    let returned = elsewhere::call_for(replica, app, callee, asked).await;
    let status = returned.status;
    let ended = took.map(|_| Instant::now());
    ticket.end(Outcome { status, has_failed: Some(status >= 500), bytes_out: 0 });
    if let (Some(before), Some(ended)) = (took, ended) {
        let names = (app.function_name(replica.function), app.function_name(callee));
        let took_ns = nanos(before + ended.elapsed());
        app.node.receipts.borrow_mut().policies_took(invocation, Some(names), took_ns);
    }
    returned
}
