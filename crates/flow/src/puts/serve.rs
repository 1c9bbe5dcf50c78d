//! The road to [`REFERENCES`]: what functions put up, and what they get.

use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::Flags;
use baton_abi::boot::NODE_PEER;
use baton_abi::descriptor::HopCost;
use baton_abi::head::{Field, records};
use baton_abi::reference::{
    FORGET, GET, PUT, READERS_HEADER, REFERENCE_BYTES, REFERENCES, STATUS_NOTHING, TTL_HEADER,
};
use bytes::Buf;

use super::{Refused, TTL_DEFAULT, forget, get, node_of, put};
use crate::app::App;
use crate::elsewhere::{self, Lack};
use crate::error::InvokeError;
use crate::invoke::Body;
use crate::landing::Landing;
use crate::outlet::{Asked, Returned, Sent};
use crate::receipts::Beside;
use crate::replica::Replica;
use crate::status::Carried;

/// What a request came to.
struct Done {
    sent: Sent,
    bytes: u64,
    copies: u16,
    node: Option<String>,
    carried: Carried,
}

/// Why it came to nothing.
enum Failure {
    Refused(Refused),
    /// It is no request that is known here.
    Malformed(&'static str),
    Invoke(InvokeError),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        Failure::Refused(refused)
    }
}

impl From<InvokeError> for Failure {
    fn from(error: InvokeError) -> Failure {
        Failure::Invoke(error)
    }
}

impl From<Lack> for Failure {
    fn from(lack: Lack) -> Failure {
        match lack {
            Lack::Nothing => Failure::Refused(Refused::Over),
            Lack::Invoke(error) => Failure::Invoke(error),
        }
    }
}

/// Answers one request of a function.
pub(crate) async fn ask(replica: &Rc<Replica>, app: &Rc<App>, asked: Asked) -> Returned {
    let began = Instant::now();
    let (invocation, operation, is_recorded) = (asked.invocation, asked.operation, asked.is_recorded);
    let outcome = match operation {
        PUT => put_up(app, asked),
        GET => find(app, asked).await,
        FORGET => drop_it(app, asked).await,
        _ => Err(Failure::Malformed("there is no such operation on references")),
    };
    if is_recorded {
        let (bytes, copies, node, carried) = match &outcome {
            Ok(done) => (done.bytes, done.copies, done.node.clone(), done.carried),
            Err(_) => (0, 0, None, Carried::default()),
        };
        let cost = HopCost {
            invocation,
            caller: replica.holder,
            operation,
            crossings: 2,
            copies,
            bytes_copied: u64::from(copies) * bytes,
            bytes_handed: if copies == 0 { bytes } else { 0 },
            wall_ns: u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            status: outcome.as_ref().map_or_else(status_of, |_| 200),
            ..HopCost::default()
        };
        let names = (app.function_name(replica.function).to_owned(), REFERENCES.to_owned());
        app.node.traces.borrow_mut().add(&app.name, &cost, (NODE_PEER, REFERENCES), node.as_deref());
        let beside = Beside { carried, ..Beside::default() };
        app.node.receipts.borrow_mut().add_crossing(&app.name, &cost, names, node, beside);
    }
    match outcome {
        Ok(Done { sent, .. }) => Returned { status: 200, flags: Flags::MOVE, sent },
        Err(failure) => {
            let flags = if matches!(failure, Failure::Invoke(_)) { Flags::REFUSED } else { Flags::MOVE };
            Returned::failure(app, status_of(&failure), flags, &words(&failure))
        }
    }
}

fn status_of(failure: &Failure) -> u16 {
    match failure {
        Failure::Refused(_) => STATUS_NOTHING,
        Failure::Malformed(_) => 400,
        Failure::Invoke(error) => elsewhere::status_of(error),
    }
}

fn words(failure: &Failure) -> String {
    match failure {
        Failure::Refused(Refused::Forged) => "it is no reference of this app".to_owned(),
        Failure::Refused(Refused::Over) => {
            "nothing is behind the reference any more: its time is over, or it was got as often as it may"
                .to_owned()
        }
        Failure::Malformed(what) => (*what).to_owned(),
        Failure::Invoke(error) => error.to_string(),
    }
}

fn number(head: &[u8], name: &str) -> Result<Option<u64>, Failure> {
    let mut all = records(head).map_while(Result::ok);
    let Some(found) = all.find(|record| record.field == Field::Header && record.name == name) else {
        return Ok(None);
    };
    let digits = std::str::from_utf8(found.value).ok().and_then(|digits| digits.parse().ok());
    digits.map(Some).ok_or(Failure::Malformed("readers and ttl-ms are whole numbers"))
}

fn put_up(app: &Rc<App>, asked: Asked) -> Result<Done, Failure> {
    let readers = number(&asked.head, READERS_HEADER)?.unwrap_or(1);
    let ttl = number(&asked.head, TTL_HEADER)?.map_or(TTL_DEFAULT, Duration::from_millis);
    let (body, copies) = elsewhere::kept(app, asked.body, asked.is_shared)?;
    let bytes = body.remaining() as u64;
    let reference = put(app, body, u32::try_from(readers).unwrap_or(u32::MAX), ttl)?;
    Ok(Done {
        sent: Sent::Landing(Landing::of(app, &reference)?),
        bytes,
        copies,
        node: None,
        carried: Carried::default(),
    })
}

/// The reference that a request brings, in private memory.
fn named(body: &Body) -> Result<Vec<u8>, Failure> {
    if body.remaining() != REFERENCE_BYTES {
        return Err(Failure::Refused(Refused::Forged));
    }
    Ok(body.to_vec())
}

async fn find(app: &Rc<App>, asked: Asked) -> Result<Done, Failure> {
    let reference = named(&asked.body)?;
    let node = node_of(&reference).ok_or(Refused::Forged)?;
    if *node == **app.node.name.borrow() {
        let body = get(app, &reference)?;
        let bytes = body.remaining() as u64;
        // A few bytes have no buffer of their own.
        let in_pool = body.in_pool().is_some();
        let (sent, copies) = if in_pool {
            (Sent::Shared(body), 0)
        } else {
            (Sent::Landing(Landing::of(app, body.chunk())?), 1)
        };
        return Ok(Done { sent, bytes, copies, node: None, carried: Carried::default() });
    }
    let landed = elsewhere::ask_holder(app, node, GET, &reference, asked.deadline).await?;
    let bytes = landed.landing.body_len();
    let copies = u16::from(landed.carried.inline_bytes > 0);
    let (carried, node) = (landed.carried, Some(node.to_owned()));
    Ok(Done { sent: Sent::Landing(landed.landing), bytes, copies, node, carried })
}

async fn drop_it(app: &Rc<App>, asked: Asked) -> Result<Done, Failure> {
    let reference = named(&asked.body)?;
    let node = node_of(&reference).ok_or(Refused::Forged)?;
    let nothing = |node| Done { sent: Sent::Nothing, bytes: 0, copies: 0, node, carried: Carried::default() };
    if *node == **app.node.name.borrow() {
        return if forget(app, &reference)? { Ok(nothing(None)) } else { Err(Refused::Over.into()) };
    }
    elsewhere::ask_holder(app, node, FORGET, &reference, asked.deadline).await?;
    Ok(nothing(Some(node.to_owned())))
}
