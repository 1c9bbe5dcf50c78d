//! Calls of functions that run on other nodes.
//!
//! ```text
//!   gateway or function ─▶ choose (pure) ─▶ Endpoint::call ─▶ answer ─▶ landing in the app's pool
//!                             ▲                   │ not begun there: the next node
//!                             └───────────────────┘ lost while it had it: the next one, if the function is `idempotent`
//! ```
//!
//! Small payloads travel in the call. Larger ones stay where they are: the other node pulls them out of this one's pool (XDT),
//! and the buffer goes back once it has them all, or the call is over.

mod carry;
pub(crate) mod serve;

use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::Flags;
use baton_abi::descriptor::HopCost;
use baton_abi::reference::{REFERENCES, STATUS_NOTHING};
use baton_placement::{Route, There, busy, reported, route};
use baton_pool::capability::NODE;
use baton_transfer::{Answer, AnswerKind, Arrived, Call, CallError, Endpoint, Payload};
use bytes::{Buf, Bytes};
use tokio::time::timeout_at;

use self::carry::{LandError, carried, land, payload};
pub(crate) use self::carry::{kept, take_back};
use crate::app::App;
use crate::error::InvokeError;
use crate::hosting::Hosting;
use crate::hosts::Host;
use crate::invoke::Body;
use crate::landing::Landing;
use crate::outlet::{Asked, Returned, Sent};
use crate::receipts::Beside;
use crate::replica::Replica;
use crate::spill::{About, Kept};
use crate::status::Carried;

/// Nodes that one call is offered to.
const ATTEMPTS_MAX: usize = 3;

/// A call that is to be made on another node.
pub(crate) struct Errand {
    pub(crate) function: usize,
    pub(crate) operation: u16,
    pub(crate) invocation: u64,
    pub(crate) is_recorded: bool,
    pub(crate) deadline: Instant,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Rc<Body>,
}

/// What came back, in this node's pool.
pub(crate) struct Landed {
    pub(crate) status: u16,
    pub(crate) head: Vec<u8>,
    pub(crate) landing: Landing,
    pub(crate) node: Rc<str>,
    pub(crate) carried: Carried,
}

/// Why an attempt came to nothing.
struct Failed {
    error: InvokeError,
    /// Another node may have it.
    again: bool,
}

impl Failed {
    fn for_good(error: InvokeError) -> Failed {
        Failed { error, again: false }
    }
}

/// Calls a function on a node that hosts it.
pub(crate) async fn call(app: &Rc<App>, errand: &Errand) -> Result<Landed, InvokeError> {
    let state = app.functions.get(errand.function).ok_or(InvokeError::Unknown)?;
    let nobody = || InvokeError::NoNode { function: state.name.to_string() };
    let endpoint = app.node.endpoint.borrow().clone().ok_or_else(nobody)?;
    let mut tried: Vec<Rc<str>> = Vec::new();
    let mut last = None;
    while tried.len() < ATTEMPTS_MAX {
        let Some(node) = choose(app, &endpoint, errand.function, &tried) else { break };
        match attempt(app, &endpoint, &node, errand).await {
            Ok(landed) => return Ok(landed),
            Err(Failed { error, again: true }) => last = Some(error),
            Err(Failed { error, .. }) => return Err(error),
        }
        tried.push(node);
    }
    Err(last.unwrap_or_else(nobody))
}

async fn attempt(
    app: &Rc<App>,
    endpoint: &Endpoint,
    node: &Rc<str>,
    errand: &Errand,
) -> Result<Landed, Failed> {
    let state = app.functions.get(errand.function).ok_or(Failed::for_good(InvokeError::Unknown))?;
    let late = || Failed::for_good(InvokeError::DeadlineExceeded { after: state.spec.timeout.duration() });
    let call = Call {
        app: app.name.clone(),
        function: state.name.as_str().to_owned(),
        version: app.version,
        invocation: errand.invocation,
        operation: errand.operation,
        record: errand.is_recorded,
        timeout: errand.deadline.saturating_duration_since(Instant::now()),
        head: errand.head.clone(),
        body: payload(app, &errand.body),
    };
    let lost = || InvokeError::NodeLost { function: state.name.to_string(), node: node.to_string() };
    // The lane keeps the time.
    let answer = endpoint.call(node, call).await.map_err(|error| match error {
        CallError::Late => late(),
        CallError::TooLarge => Failed::for_good(InvokeError::HeadTooLarge),
        error if error.retryable() => {
            Failed { error: InvokeError::NoNode { function: state.name.to_string() }, again: true }
        }
        _ => Failed { error: lost(), again: state.spec.idempotent },
    })?;
    let Answer { status, kind, head, body, .. } = answer;
    match kind {
        AnswerKind::Reply => {
            let carried = carried(errand.body.remaining() as u64, &body);
            let landing = land(app, endpoint, (node, &head), body, errand.deadline).await;
            let landing = landing.map_err(|error| match error {
                LandError::Invoke(error) => Failed::for_good(error),
                LandError::Late => late(),
                LandError::Lost => Failed { error: lost(), again: state.spec.idempotent },
            })?;
            Ok(Landed { status, head, landing, node: Rc::clone(node), carried })
        }
        _ => {
            let words = match body {
                Arrived::Inline(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                _ => String::new(),
            };
            Err(failure(kind, status, words, state.name.as_str(), state.spec.timeout.duration()))
        }
    }
}

/// What a failure on another node is here.
fn failure(kind: AnswerKind, status: u16, words: String, function: &str, timeout: Duration) -> Failed {
    let function = function.to_owned();
    match (kind, status) {
        (AnswerKind::FunctionError, _) => Failed::for_good(InvokeError::Function { status, message: words }),
        (AnswerKind::Refused, 429) => Failed { error: InvokeError::QueueFull, again: true },
        (AnswerKind::Refused, 413) => {
            Failed { error: InvokeError::Function { status, message: words }, again: true }
        }
        (AnswerKind::Refused, _) => Failed { error: InvokeError::NoNode { function }, again: true },
        (_, 504) => Failed::for_good(InvokeError::DeadlineExceeded { after: timeout }),
        _ => Failed::for_good(InvokeError::ReplicaDied { function, how: words }),
    }
}

/// Whether a call that this node took is better made on another one now: the function is not here, or has no room.
pub(crate) fn is_better(app: &App, function: usize) -> bool {
    let Some(state) = app.functions.get(function) else { return false };
    if state.hosting == Hosting::Elsewhere {
        return true;
    }
    let Some(endpoint) = app.node.endpoint.borrow().clone() else { return false };
    let here = state.here(app.comes_and_goes(function), app.node.hosts.borrow().own_cpu);
    if here.is_free() {
        return false;
    }
    // Where a cold start is all that is to be had elsewhere, it may as well be here.
    let all = peers(app, &endpoint, function, &[]).into_iter().map(|(_, there)| there);
    let peers: Vec<There> = all.filter(|there| there.busy.is_some()).collect();
    matches!(route(Some(&here), &peers, app.node.draw()), Route::There(_))
}

/// The node for the next attempt.
fn choose(app: &App, endpoint: &Endpoint, function: usize, tried: &[Rc<str>]) -> Option<Rc<str>> {
    let state = app.functions.get(function)?;
    // Where there is one node only, nothing is weighed.
    if let [only] = app.node.hosts.borrow().of(&app.name, state.name.as_str()) {
        let is_new = !tried.iter().any(|node| **node == *only.node);
        return (is_new && endpoint.calls_out(&only.node).is_some()).then(|| Rc::from(only.node.as_str()));
    }
    let peers = peers(app, endpoint, function, tried);
    let there: Vec<There> = peers.iter().map(|(_, there)| *there).collect();
    match route(None, &there, app.node.draw()) {
        Route::There(index) => peers.get(index).map(|(node, _)| Rc::clone(node)),
        Route::Here | Route::Nowhere => None,
    }
}

/// The nodes that are up and host a function, and how busy it is there. One that drains is among them only if all do.
fn peers(app: &App, endpoint: &Endpoint, function: usize, tried: &[Rc<str>]) -> Vec<(Rc<str>, There)> {
    let Some(state) = app.functions.get(function) else { return Vec::new() };
    let hosts = Rc::clone(&app.node.hosts.borrow());
    let is_new = |host: &&Host| !tried.iter().any(|node| **node == *host.node);
    let of_all = hosts.of(&app.name, state.name.as_str());
    // Calls stay within the version that the request began in, wherever that is to be had.
    let has_own = of_all.iter().any(|host| host.version == app.version);
    let is_own = |host: &&Host| !has_own || host.version == app.version;
    let up = |host: &'_ Host| endpoint.calls_out(&host.node);
    let up: Vec<(&Host, u32)> =
        of_all.iter().filter(is_new).filter(is_own).filter_map(|host| Some((host, up(host)?))).collect();
    let drains = |host: &Host| hosts.peers.get(&host.node).is_none_or(|peer| peer.draining);
    let all_drain = up.iter().all(|(host, _)| drains(host));
    let chosen = up.into_iter().filter(|(host, _)| all_drain || !drains(host));
    chosen
        .map(|(host, calls_out)| {
            let room = host.ready.saturating_mul(state.spec.scale.concurrency);
            // What this node has there is newer than the report.
            let running = host.in_flight.max(calls_out);
            let node = hosts.peers.get(&host.node).map_or(0, |peer| peer.cpu);
            (Rc::from(host.node.as_str()), There { busy: reported(busy(running, host.queued, room), node) })
        })
        .collect()
}

/// Asks the node that made a reference about it.
pub(crate) async fn ask_holder(
    app: &Rc<App>,
    node: &str,
    operation: u16,
    reference: &[u8],
    deadline: Instant,
) -> Result<Landed, Lack> {
    let nobody = || Lack::Invoke(InvokeError::NoNode { function: REFERENCES.to_owned() });
    let late = || {
        Lack::Invoke(InvokeError::DeadlineExceeded {
            after: deadline.saturating_duration_since(Instant::now()),
        })
    };
    let lost =
        || Lack::Invoke(InvokeError::NodeLost { function: REFERENCES.to_owned(), node: node.to_owned() });
    let endpoint = app.node.endpoint.borrow().clone().ok_or_else(nobody)?;
    let call = Call {
        app: app.name.clone(),
        function: REFERENCES.to_owned(),
        version: app.version,
        operation,
        timeout: deadline.saturating_duration_since(Instant::now()),
        body: Payload::Inline(Bytes::copy_from_slice(reference)),
        ..Call::default()
    };
    let answered = timeout_at(deadline.into(), endpoint.call(node, call)).await.map_err(|_| late())?;
    let Answer { status, kind, head, body, .. } = answered.map_err(|_| lost())?;
    if kind != AnswerKind::Reply {
        return Err(if status == STATUS_NOTHING { Lack::Nothing } else { lost() });
    }
    let carried = carried(0, &body);
    match land(app, &endpoint, (node, &head), body, deadline).await {
        Ok(landing) => Ok(Landed { status, head, landing, node: Rc::from(node), carried }),
        Err(LandError::Invoke(error)) => Err(Lack::Invoke(error)),
        Err(LandError::Late) => Err(late()),
        Err(LandError::Lost) => Err(lost()),
    }
}

/// Why a reference of another node brought nothing.
pub(crate) enum Lack {
    /// There is nothing behind it.
    Nothing,
    /// It could not be asked for.
    Invoke(InvokeError),
}

/// A call of a function on this node for one on another.
pub(crate) async fn call_for(replica: &Rc<Replica>, app: &Rc<App>, callee: usize, asked: Asked) -> Returned {
    let began = Instant::now();
    let Asked { operation, invocation, is_recorded, deadline, is_shared, head, body, .. } = asked;
    let sent_bytes = body.remaining() as u64;
    let (body, copies) = match kept(app, body, is_shared) {
        Ok(owned) => owned,
        Err(error) => return returned(app, error),
    };
    let errand =
        Errand { function: callee, operation, invocation, is_recorded, deadline, head, body: Rc::new(body) };
    let outcome = if is_durable(app, replica, &errand) {
        // Apart, so that most calls do not carry the room for it about.
        Box::pin(call_durably(app, replica, &errand)).await
    } else {
        call(app, &errand).await
    };
    if is_recorded {
        let caller = app.function_name(replica.function).to_owned();
        let own = HopCost {
            caller: replica.holder,
            operation,
            crossings: 2,
            copies,
            bytes_copied: u64::from(copies) * sent_bytes,
            ..HopCost::default()
        };
        record(app, &errand, (caller, own), &outcome, began);
    }
    match outcome {
        Ok(landed) => {
            Returned { status: landed.status, flags: Flags::MOVE, sent: Sent::Landing(landed.landing) }
        }
        Err(error) => returned(app, error),
    }
}

fn is_durable(app: &App, replica: &Replica, errand: &Errand) -> bool {
    let ends = (app.functions.get(replica.function), app.functions.get(errand.function));
    matches!(ends, (Some(caller), Some(callee)) if caller.spec.durable.contains(&callee.name))
}

/// As [`call`], with the call on the disk until it is over, however it ends.
async fn call_durably(app: &Rc<App>, replica: &Replica, errand: &Errand) -> Result<Landed, InvokeError> {
    let _kept = put_on_disk(app, replica, errand).await?;
    call(app, errand).await
}

/// Puts a call of a durable edge on the disk.
async fn put_on_disk(app: &Rc<App>, replica: &Replica, errand: &Errand) -> Result<Kept, InvokeError> {
    let (Some(caller), Some(callee)) =
        (app.functions.get(replica.function), app.functions.get(errand.function))
    else {
        return Err(InvokeError::Unknown);
    };
    let spill =
        app.node.spill.as_ref().ok_or(InvokeError::NotKept { why: "the node has no directory for it" })?;
    let about = About {
        app: app.name.clone(),
        caller: caller.name.to_string(),
        callee: callee.name.to_string(),
        operation: errand.operation,
    };
    spill.keep(app, about, &errand.head, &errand.body).await
}

/// The status of a failure for the function that called.
pub(crate) fn status_of(error: &InvokeError) -> u16 {
    match error {
        // To functions it is whatever the other one meant by it.
        InvokeError::Function { status, .. } => *status,
        error => error.status(),
    }
}

/// A failure as the calling function gets it: its callee's own words, or the node's about it.
pub(crate) fn returned(app: &Rc<App>, error: InvokeError) -> Returned {
    let flags = match error {
        InvokeError::Function { .. } => Flags::MOVE,
        _ => Flags::REFUSED,
    };
    Returned::failure(app, status_of(&error), flags, &error.to_string())
}

/// The receipt's row of a call that was made on another node, for which `caller` had costs of its `own`.
pub(crate) fn record(
    app: &App,
    errand: &Errand,
    (caller, own): (String, HopCost),
    outcome: &Result<Landed, InvokeError>,
    began: Instant,
) {
    let (node, carried) = match outcome {
        Ok(landed) => (Some(landed.node.to_string()), landed.carried),
        Err(_) => (None, Carried::default()),
    };
    let cost = HopCost {
        invocation: errand.invocation,
        // What travels in a call is copied on its way.
        copies: own.copies + u16::from(carried.inline_bytes > 0),
        bytes_copied: own.bytes_copied + carried.inline_bytes,
        bytes_handed: carried.referenced_bytes,
        wall_ns: u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
        status: outcome.as_ref().map_or_else(status_of, |landed| landed.status),
        ..own
    };
    let names = (caller, app.function_name(errand.function).to_owned());
    let beside = Beside { carried, ..Beside::default() };
    app.node.traces.borrow_mut().add(&app.name, &cost, (NODE, &names.1), node.as_deref());
    app.node.receipts.borrow_mut().add_crossing(&app.name, &cost, names, node, beside);
}
