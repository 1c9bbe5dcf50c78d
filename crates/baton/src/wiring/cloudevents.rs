//! CloudEvents at the gateway: from a request to the functions that subscribe, or into their queues.
//!
//! ```text
//!   request ─▶ mode ─ binary, not durable ──────────────────────▶ as any request: the body goes into the pool as it comes
//!                └─── else: gathered ─▶ events, checked ─┬ durable ─▶ queues of all that subscribe ─▶ 202
//!                                                        └ not ─────▶ the first that subscribes ─▶ its answer, in the mode of the request
//! ```

use std::cell::Cell;
use std::rc::Rc;

use baton_catalog::FunctionName;
use baton_control::limits::EVENT_BYTES_MAX;
use baton_control::{Event, EventFault as QueueFault};
use baton_flow::{ADMITTED_HEADER, DirectCall, Field, Flow, Head, InvokeError, Listeners, Wish};
use baton_gateway::RequestHead;
use baton_gateway::cloudevents::{
    BATCH, CloudEvent, EventFault, Mode, STRUCTURED, from_batch, from_structured, is_of_event, to_batch,
    to_structured,
};
use bytes::{Buf, Bytes};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::backend::{FlowReply, FlowUpload};

/// Bytes of all requests that are being gathered.
const GATHERED_BYTES_MAX: usize = 256 << 20;
/// Events on their way to the thread that writes them down.
const DOOR_MAX: usize = 1024;

/// An event for a queue, and who waits until it is on the disk.
pub(super) type Delivery = (Event, oneshot::Sender<Result<String, QueueFault>>);

/// The way from the data plane to the queues.
#[derive(Clone)]
pub(super) struct Door {
    to: mpsc::Sender<Delivery>,
    gathered: Rc<Cell<usize>>,
}

/// Both ends of the way.
pub(super) fn door() -> (mpsc::Sender<Delivery>, mpsc::Receiver<Delivery>) {
    mpsc::channel(DOOR_MAX)
}

impl Door {
    pub(super) fn new(to: mpsc::Sender<Delivery>) -> Self {
        Self { to, gathered: Rc::default() }
    }
}

/// A request whose body is wanted whole, since its events are in there.
pub(super) struct Gather {
    flow: Flow,
    door: Door,
    listeners: Listeners,
    mode: Mode,
    /// In binary mode, all but its payload.
    event: CloudEvent,
    body: Vec<u8>,
    /// The request's own head: policies go by it.
    head: Head,
    request: Request,
}

/// Names in lower case, and values.
type Headers = Vec<(String, Vec<u8>)>;

/// What functions see of a request beside its event.
struct Request {
    path: String,
    query: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    client: baton_flow::ClientFacts,
}

/// Takes a request to a path for events.
pub(super) fn begin(
    (flow, door): (&Flow, &Door),
    listeners: Listeners,
    request: &RequestHead<'_>,
    (head, body_len, wish): (Head, Option<u64>, Wish),
) -> Result<FlowUpload, InvokeError> {
    let content_type = request.headers().find(|(name, _)| *name == "content-type");
    let content_type = content_type.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let mode = Mode::of(content_type.as_deref()).map_err(|fault| refused(&fault))?;
    let event = match mode {
        Mode::Binary => CloudEvent::from_headers(request.headers()).map_err(|fault| refused(&fault))?,
        Mode::Structured | Mode::Batch => CloudEvent::default(),
    };
    if mode == Mode::Binary && !listeners.are_durable() {
        let function = first(&listeners, &event)?;
        let target = listeners.target(function).ok_or(InvokeError::Unknown)?;
        return flow.begin(&target, &head, body_len, wish).map(FlowUpload::Flow);
    }
    if body_len.is_some_and(|len| len > EVENT_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let is_kept = |name: &str| !is_of_event(name);
    let headers = request.headers().filter(|(name, _)| is_kept(name));
    let request = Request {
        path: request.path.to_owned(),
        query: request.query.map(str::to_owned),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        client: request.client.clone(),
    };
    let (flow, door, body) = (flow.clone(), door.clone(), Vec::new());
    Ok(FlowUpload::Events(Box::new(Gather { flow, door, listeners, mode, event, body, head, request })))
}

impl Gather {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        if self.body.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(too_large());
        }
        let gathered = self.door.gathered.get() + bytes.len();
        if gathered > GATHERED_BYTES_MAX {
            let message = "too many events are on their way in; send it again later".to_owned();
            return Err(InvokeError::Function { status: 503, message });
        }
        self.door.gathered.set(gathered);
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) async fn finish(mut self: Box<Self>) -> Result<FlowReply, InvokeError> {
        let events = match self.mode {
            Mode::Binary => {
                let event = std::mem::take(&mut self.event);
                // Counted until the request is over, as what it was taken from.
                Ok(vec![event.with_data(self.body.clone())])
            }
            Mode::Structured => from_structured(&self.body).map(|event| vec![event]),
            Mode::Batch => from_batch(&self.body),
        };
        let events = events.map_err(|fault| refused(&fault))?;
        if self.listeners.are_durable() {
            return self.queue(events).await;
        }
        if self.mode == Mode::Batch {
            return self.call_each(events).await;
        }
        let Some(event) = events.into_iter().next() else { return Err(InvokeError::Unknown) };
        let reply = self.call(event).await?;
        Ok(match answered(reply) {
            Answer::Event { status, mut headers, event, invocation } => {
                headers.push(("content-type".to_owned(), STRUCTURED.as_bytes().to_vec()));
                let body = Bytes::from(to_structured(&event));
                FlowReply::Made { status, headers, body, invocation }
            }
            Answer::Other(reply) => reply,
        })
    }

    /// Puts events into the queues of all that subscribe. All are on the disk when it is said so.
    async fn queue(&self, events: Vec<CloudEvent>) -> Result<FlowReply, InvokeError> {
        let mut admitted: Vec<(&FunctionName, Headers)> = Vec::new();
        let mut waiting = Vec::new();
        for event in events {
            let functions = self.listeners.of(event.attribute("type"), event.attribute("source"));
            for &function in &functions {
                let known = admitted.iter().position(|(name, _)| *name == function);
                let place = match known {
                    Some(place) => place,
                    None => {
                        let target = self.listeners.target(function).ok_or(InvokeError::Unknown)?;
                        admitted.push((function, self.flow.admit(&target, &self.head)?));
                        admitted.len() - 1
                    }
                };
                let headers = admitted.get(place).map_or(&[][..], |(_, headers)| headers);
                let (sender, receiver) = oneshot::channel();
                let delivery = (self.event(function, headers, &event), sender);
                self.door.to.send(delivery).await.map_err(|_| InvokeError::Draining)?;
                let told = (event.attribute("id").to_owned(), event.attribute("source").to_owned());
                waiting.push((told, function, receiver));
            }
        }
        let mut accepted = Vec::new();
        for ((id, source), function, receiver) in waiting {
            let name =
                receiver.await.map_err(|_| InvokeError::Draining)?.map_err(|fault| not_queued(&fault))?;
            accepted.push(json!({ "id": id, "source": source, "function": function, "event": name }));
        }
        let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
        let body = Bytes::from(json!({ "accepted": accepted }).to_string());
        Ok(FlowReply::Made { status: 202, headers, body, invocation: 0 })
    }

    fn event(&self, function: &FunctionName, headers: &[(String, Vec<u8>)], event: &CloudEvent) -> Event {
        // Who may send events was found out before they were taken: what the node was shown is nobody's to keep.
        let is_kept = |name: &str| !is_of_event(name) && !["authorization", "cookie", "host"].contains(&name);
        let headers = headers.iter().filter(|(name, _)| is_kept(name)).cloned();
        let admitted = (ADMITTED_HEADER.to_owned(), b"1".to_vec());
        let call = DirectCall {
            method: "POST".to_owned(),
            path: self.target(),
            headers: headers.chain(event.headers()).chain([admitted]).collect(),
            body: event.data.clone(),
        };
        Event::new(self.listeners.app().to_owned(), function.to_string(), call)
    }

    fn target(&self) -> String {
        match &self.request.query {
            Some(query) => format!("{}?{query}", self.request.path),
            None => self.request.path.clone(),
        }
    }

    /// Has the first that subscribes answer.
    async fn call(&self, event: CloudEvent) -> Result<baton_flow::Reply, InvokeError> {
        let target = self.listeners.target(first(&self.listeners, &event)?).ok_or(InvokeError::Unknown)?;
        let Request { path, query, headers, client } = &self.request;
        let mut head = Head::new();
        head.add(Field::Method, "", b"POST")?;
        head.add(Field::Path, "", path.as_bytes())?;
        if let Some(query) = query {
            head.add(Field::Query, "", query.as_bytes())?;
        }
        for (name, value) in headers.iter().chain(&event.headers()) {
            head.add(Field::Header, name, value)?;
        }
        head.sent_by(client.clone());
        if let Some(identity) = &client.identity {
            head.add(Field::Identity, "", identity.as_bytes())?;
        }
        let mut upload = self.flow.begin(&target, &head, Some(event.data.len() as u64), Wish::default())?;
        upload.write(&event.data)?;
        upload.finish().await
    }

    /// The events of a batch, one after the other, and what they came to in one answer.
    async fn call_each(&self, events: Vec<CloudEvent>) -> Result<FlowReply, InvokeError> {
        let (mut replies, mut failed, mut worst) = (Vec::new(), Vec::new(), None);
        let count = events.len();
        for event in events {
            let (id, source) = (event.attribute("id").to_owned(), event.attribute("source").to_owned());
            let (status, why) = match self.call(event).await {
                Ok(reply) => match answered(reply) {
                    Answer::Event { status, event, .. } if status < 400 => {
                        replies.push(event);
                        continue;
                    }
                    Answer::Event { status, .. } => (status, String::new()),
                    Answer::Other(reply) if reply.status_code() < 400 => continue,
                    Answer::Other(reply) => (reply.status_code(), String::new()),
                },
                // Policies say no to all or to none: the rest need not be tried.
                Err(error @ InvokeError::Refused(_)) => return Err(error),
                Err(InvokeError::Function { status, message }) => (status, message),
                Err(error) => (503, error.to_string()),
            };
            worst = worst.max(Some(status));
            failed.push(json!({ "id": id, "source": source, "status": status, "error": why }));
        }
        let kind = |kind: &str| vec![("content-type".to_owned(), kind.as_bytes().to_vec())];
        let (status, headers, body) = match worst {
            Some(status) => {
                let done = count - failed.len();
                let text =
                    json!({ "error": "some events of the batch failed", "done": done, "failed": failed });
                (status, kind("application/json"), text.to_string().into_bytes())
            }
            None if replies.is_empty() => (204, Vec::new(), Vec::new()),
            None => (200, kind(BATCH), to_batch(&replies)),
        };
        Ok(FlowReply::Made { status, headers, body: Bytes::from(body), invocation: 0 })
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        let gathered = &self.door.gathered;
        gathered.set(gathered.get().saturating_sub(self.body.len()));
    }
}

/// What a function answered to an event.
enum Answer {
    Event { status: u16, headers: Vec<(String, Vec<u8>)>, event: CloudEvent, invocation: u64 },
    Other(FlowReply),
}

fn answered(reply: baton_flow::Reply) -> Answer {
    if reply.status() >= 400 || !reply.headers().any(|(name, _)| name == "ce-specversion") {
        return Answer::Other(FlowReply::Flow(reply));
    }
    // One that is not as it should be goes out as it is.
    let Ok(event) = CloudEvent::from_headers(reply.headers()) else {
        return Answer::Other(FlowReply::Flow(reply));
    };
    let headers = reply.headers().filter(|(name, _)| !is_of_event(name));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let (status, invocation) = (reply.status(), reply.invocation());
    let mut body = reply.into_body();
    let data = body.copy_to_bytes(body.remaining()).to_vec();
    Answer::Event { status, headers, event: event.with_data(data), invocation }
}

fn first<'a>(listeners: &'a Listeners, event: &CloudEvent) -> Result<&'a FunctionName, InvokeError> {
    let (kind, source) = (event.attribute("type"), event.attribute("source"));
    listeners.of(kind, source).into_iter().next().ok_or_else(|| {
        let message = format!(
            "no subscription takes events of type {kind:?} from {source:?}; `[[subscriptions]]` in baton.toml adds one"
        );
        InvokeError::Function { status: 404, message }
    })
}

fn refused(fault: &EventFault) -> InvokeError {
    InvokeError::Function { status: fault.status(), message: fault.to_string() }
}

fn too_large() -> InvokeError {
    let message =
        format!("events come in requests of at most {} MiB; send less at once", EVENT_BYTES_MAX >> 20);
    InvokeError::Function { status: 413, message }
}

fn not_queued(fault: &QueueFault) -> InvokeError {
    let status = match fault {
        QueueFault::QueueFull { .. } | QueueFault::NoRoom | QueueFault::Busy => 429,
        QueueFault::TooLarge => 413,
        QueueFault::Disk(_) => 507,
        QueueFault::Unknown { .. } | QueueFault::Absent { .. } | QueueFault::Store(_) => 503,
    };
    InvokeError::Function { status, message: fault.to_string() }
}
