//! Calls that other nodes make of functions here.
//!
//! They are served by this node or refused before they begin; none is passed on to a third node, so that no call goes round.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use baton_abi::reference::{FORGET, GET, REFERENCES, STATUS_NOTHING};
use baton_transfer::{AnswerKind, Arrived, Endpoint, Incoming, Outcome, Payload, Service};
use bytes::Bytes;

use super::carry::{LandError, land, payload};
use crate::app::App;
use crate::error::InvokeError;
use crate::flow::Flow;
use crate::invoke::{Origin, Reply, Upload};
use crate::puts;

/// Serves the calls of other nodes from the apps of a data plane.
pub(crate) struct Inbound {
    pub(crate) flow: Flow,
    /// What payloads are pulled with; absent until it has started.
    pub(crate) endpoint: RefCell<Option<Endpoint>>,
}

impl Service for Inbound {
    fn serve(&self, from: Rc<str>, call: Incoming) -> Pin<Box<dyn Future<Output = Outcome>>> {
        let (flow, endpoint) = (self.flow.clone(), self.endpoint.borrow().clone());
        Box::pin(async move {
            let Some(endpoint) = endpoint else { return refused(503, "the node is being started") };
            serve(&flow, &endpoint, &from, call).await
        })
    }
}

async fn serve(flow: &Flow, endpoint: &Endpoint, from: &str, call: Incoming) -> Outcome {
    let Some(app) = flow.app_of(&call.app, call.version) else {
        return refused(404, "the app does not run here");
    };
    if call.function == REFERENCES {
        return referenced(&app, &call);
    }
    let mut functions = app.functions.iter().enumerate();
    let found = functions.find(|(_, state)| state.name.as_str() == call.function);
    let Some((function, state)) = found.filter(|(function, _)| app.is_here(*function)) else {
        return refused(404, "the function does not run here");
    };
    if app.node.draining.get() {
        return refused(503, "the node is shutting down");
    }
    let timeout = call.timeout.min(state.spec.timeout.duration());
    let deadline = Instant::now() + timeout;
    // Its replica is readied while its payload comes.
    app.stir(state);
    let (operation, invocation, is_recorded) = (call.operation, call.invocation, call.record);
    let landing = match land(&app, endpoint, (from, &call.head), call.body, deadline).await {
        Ok(landing) => landing,
        Err(error) => return not_landed(&error),
    };
    let origin = Origin::Node {
        operation,
        invocation,
        is_recorded,
        timeout: deadline.saturating_duration_since(Instant::now()),
    };
    let result = Upload::landed(&app, function, landing, origin).finish().await;
    let load = app.in_flight().saturating_add(u32::try_from(app.queued()).unwrap_or(u32::MAX));
    match result {
        Ok(reply) => answer(&app, reply, load),
        Err(error) => Outcome { load, ..failure(&error) },
    }
}

/// Payloads that were put up here, for a function of the same app on another node.
fn referenced(app: &Rc<App>, call: &Incoming) -> Outcome {
    let Arrived::Inline(reference) = &call.body else { return refused(STATUS_NOTHING, "it is no reference") };
    match call.operation {
        GET => match puts::get(app, reference) {
            Ok(body) => Outcome {
                status: 200,
                kind: AnswerKind::Reply,
                body: payload(app, &body),
                ..Outcome::default()
            },
            Err(_) => refused(STATUS_NOTHING, "nothing is behind the reference"),
        },
        FORGET => match puts::forget(app, reference) {
            Ok(true) => Outcome { status: 200, kind: AnswerKind::Reply, ..Outcome::default() },
            _ => refused(STATUS_NOTHING, "nothing is behind the reference"),
        },
        _ => refused(400, "there is no such operation on references"),
    }
}

fn not_landed(error: &LandError) -> Outcome {
    match error {
        LandError::Invoke(InvokeError::TooLarge { limit }) => {
            refused(413, &format!("the payload is larger than the app's pool there ({limit} bytes)"))
        }
        LandError::Invoke(error) => refused(503, &error.to_string()),
        LandError::Late => outcome(AnswerKind::Died, 504, "the payload did not come in time"),
        LandError::Lost => outcome(AnswerKind::Died, 502, "the payload could not be pulled"),
    }
}

fn answer(app: &Rc<App>, reply: Reply, load: u32) -> Outcome {
    let (status, head) = (reply.status(), reply.head().to_vec());
    let body = reply.into_body();
    let payload = payload(app, &Rc::new(body));
    Outcome { status, kind: AnswerKind::Reply, load, head, body: payload }
}

/// What went wrong here, for the node that called.
fn failure(error: &InvokeError) -> Outcome {
    let words = error.to_string();
    match error {
        InvokeError::Function { status, message } => outcome(AnswerKind::FunctionError, *status, message),
        InvokeError::Unknown => refused(404, &words),
        InvokeError::QueueFull => refused(429, &words),
        InvokeError::NoReplica { .. } | InvokeError::Draining | InvokeError::PoolFull => refused(503, &words),
        InvokeError::DeadlineExceeded { .. } => outcome(AnswerKind::Died, 504, &words),
        InvokeError::ReplicaDied { how, .. } => outcome(AnswerKind::Died, 502, how),
        _ => outcome(AnswerKind::Died, 502, &words),
    }
}

/// Nothing was begun.
fn refused(status: u16, words: &str) -> Outcome {
    outcome(AnswerKind::Refused, status, words)
}

fn outcome(kind: AnswerKind, status: u16, words: &str) -> Outcome {
    let words = Bytes::copy_from_slice(words.as_bytes());
    let body = if words.is_empty() { Payload::Empty } else { Payload::Inline(words) };
    Outcome { status, kind, load: 0, head: Vec::new(), body }
}
