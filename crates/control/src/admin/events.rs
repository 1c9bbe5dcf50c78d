//! Calls that nobody waits for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;

use super::Api;
use super::fault::Fault;
use super::invoke::call_of;
use super::payload;
use crate::events::{Event, EventFault};
use crate::limits::EVENT_BYTES_MAX;
use crate::protocol::{EventReply, EventsReply, PATH_HEADER};

pub(super) async fn accept(
    State(api): State<Arc<Api>>,
    Path((app, function)): Path<(String, String)>,
    request: Request,
) -> Result<(StatusCode, Json<EventReply>), Fault> {
    let has_path = request.headers().contains_key(PATH_HEADER);
    let call = call_of(request, EVENT_BYTES_MAX).await?;
    let call = payload::as_meant(&api, (&app, &function), call, has_path);
    let event = Event::new(app, function, call);
    // On a task of its own: a client that leaves must not leave half an event.
    let accepted = tokio::spawn(async move { api.events.accept(event).await }).await;
    let event = accepted.map_err(|_| {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "the event was not taken", "see the node's output")
    })??;
    Ok((StatusCode::ACCEPTED, Json(EventReply { event })))
}

pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<EventsReply>, Fault> {
    Ok(Json(EventsReply { queues: api.events.queues(), dead: api.events.dead().await? }))
}

pub(super) async fn revive(
    State(api): State<Arc<Api>>,
    Path(event): Path<String>,
) -> Result<(StatusCode, Json<EventReply>), Fault> {
    let event = api.events.revive(&event).await?;
    Ok((StatusCode::ACCEPTED, Json(EventReply { event })))
}

pub(super) async fn forget(
    State(api): State<Arc<Api>>,
    Path(event): Path<String>,
) -> Result<StatusCode, Fault> {
    api.events.forget(&event).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<EventFault> for Fault {
    fn from(fault: EventFault) -> Self {
        let text = fault.to_string();
        let (status, hint) = match fault {
            EventFault::Unknown { .. } => (StatusCode::NOT_FOUND, "`baton ps` lists what runs"),
            EventFault::QueueFull { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "send it again later; `baton events` shows what waits")
            }
            EventFault::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "send where the data is, or call the function through the gateway",
            ),
            EventFault::NoRoom | EventFault::Busy => (StatusCode::TOO_MANY_REQUESTS, "send it again later"),
            EventFault::Absent { .. } => (StatusCode::NOT_FOUND, "`baton events` lists them"),
            EventFault::Disk(source) => return Self::of_store(&source),
            EventFault::Store(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "`baton cluster status` says how the store is")
            }
        };
        Self::new(status, text, hint)
    }
}
