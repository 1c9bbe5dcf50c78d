//! Payloads on their way between nodes: what a call carries, and what lands of it in the pool.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use baton_pool::capability::Handle;
use baton_pool::region::{self, View};
use baton_transfer::limits::INLINE_MAX;
use baton_transfer::{Arrived, Endpoint, Held, Owner, Payload, Place, PullError, Reference, Room};
use bytes::{Buf, Bytes};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::app::App;
use crate::error::InvokeError;
use crate::invoke::{Body, Head};
use crate::landing::Landing;
use crate::status::Carried;

/// A body as it travels.
pub(super) fn payload(app: &App, body: &Rc<Body>) -> Payload {
    let len = body.remaining();
    if len == 0 {
        return Payload::Empty;
    }
    match body.in_pool() {
        Some((handle, view)) if len > INLINE_MAX => Payload::Held(held(app, handle, view, Rc::clone(body))),
        _ => Payload::Inline(Bytes::copy_from_slice(body.chunk())),
    }
}

/// Bytes of the pool that stay where they are until `owner` is no longer needed.
fn held(app: &App, handle: Handle, view: View, owner: Rc<Body>) -> Held {
    let use_of_it = Rc::new(());
    if !app.pool.borrow().owns(handle) {
        // Who shared it can take it back.
        app.shared_out.borrow_mut().push((handle, Rc::downgrade(&use_of_it)));
        app.node.busy.notify_one();
    }
    let place = Place { at: view.offset(), view, pool: app.pool.borrow().shared_fd() };
    let Handle { index: buffer, generation } = handle;
    let whose = Owner { app: app.name.clone(), buffer, generation };
    Held::new(place, whose, until_dropped((owner, use_of_it)))
}

/// Takes back from other nodes what its owners took back since the last look. `true` while anything is shared with them.
pub(crate) fn take_back(app: &App) -> bool {
    let mut shared = app.shared_out.borrow_mut();
    if shared.is_empty() {
        return false;
    }
    let pool = app.pool.borrow();
    shared.retain(|(handle, use_of_it)| {
        let is_out = use_of_it.strong_count() > 0;
        if is_out && !pool.still_has(*handle) {
            if let Some(endpoint) = app.node.endpoint.borrow().as_ref() {
                endpoint.revoke(&app.name, Some((handle.index, handle.generation)));
            }
            return false;
        }
        is_out
    });
    !shared.is_empty()
}

/// Something to give to other threads: `owner` is dropped here once that is dropped there.
fn until_dropped<T: 'static>(owner: T) -> Box<dyn Send> {
    let (gone, dropped) = oneshot::channel::<()>();
    tokio::task::spawn_local(async move {
        let _ = dropped.await;
        drop(owner);
    });
    Box::new(gone)
}

pub(super) fn carried(sent: u64, came: &Arrived) -> Carried {
    let mut carried = Carried::default();
    let came = match came {
        Arrived::Empty => 0,
        Arrived::Inline(bytes) => {
            carried.inline_bytes += bytes.len() as u64;
            0
        }
        Arrived::Referenced(reference) => reference.len,
    };
    carried.referenced_bytes += came;
    if sent > INLINE_MAX as u64 {
        carried.referenced_bytes += sent;
    } else {
        carried.inline_bytes += sent;
    }
    carried
}

/// Why a payload of another node did not land.
pub(super) enum LandError {
    /// The pool has no room, or never will.
    Invoke(InvokeError),
    /// It took too long.
    Late,
    /// The other node is gone, or does not have the bytes any more.
    Lost,
}

/// A payload that came from another node, in the pool behind `head`.
pub(super) async fn land(
    app: &Rc<App>,
    endpoint: &Endpoint,
    (node, head): (&str, &[u8]),
    body: Arrived,
    deadline: Instant,
) -> Result<Landing, LandError> {
    let head = Head { bytes: head.to_vec(), ..Head::default() };
    let len = match &body {
        Arrived::Empty => 0,
        Arrived::Inline(bytes) => bytes.len() as u64,
        Arrived::Referenced(reference) => reference.len,
    };
    let landing = Landing::begin(app, &head, Some(len));
    if let (Err(_), Arrived::Referenced(reference)) = (&landing, &body) {
        endpoint.release(node, reference);
    }
    let mut landing = landing.map_err(LandError::Invoke)?;
    match body {
        Arrived::Empty => Ok(landing),
        Arrived::Inline(bytes) => {
            landing.write(&bytes).map_err(LandError::Invoke)?;
            Ok(landing)
        }
        // Apart, so that what comes with its call does not carry the room for it about.
        Arrived::Referenced(reference) => Box::pin(pull(endpoint, node, &reference, landing, deadline)).await,
    }
}

/// Pulls the bytes behind a reference into the room that was made for them.
async fn pull(
    endpoint: &Endpoint,
    node: &str,
    reference: &Reference,
    landing: Landing,
    deadline: Instant,
) -> Result<Landing, LandError> {
    let full = || LandError::Invoke(InvokeError::PoolFull);
    let (mapping, offset) = landing.range_for(reference.len).ok_or_else(full)?;
    let landing = Rc::new(RefCell::new(Some(landing)));
    // Bytes may still be on their way into the buffer when this future is gone.
    let keep = until_dropped(Rc::clone(&landing));
    let range = region::Room::new(&mapping, offset, reference.len).ok_or_else(full)?;
    let room = Room::new(range, keep);
    let pulled = timeout_at(deadline.into(), endpoint.pull(node, reference, room, deadline)).await;
    match pulled {
        Ok(Ok(_room)) => {
            let mut landed = landing.borrow_mut().take().ok_or(LandError::Lost)?;
            landed.has_landed(reference.len);
            Ok(landed)
        }
        Ok(Err(PullError::Late)) => Err(LandError::Late),
        Ok(Err(_)) => Err(LandError::Lost),
        Err(_) => Err(LandError::Late),
    }
}

/// A payload that stays as it is for as long as the node has it: what is only lent is copied, since its owner may take it
/// back at any time and use its buffer again. Gives how many copies that took.
pub(crate) fn kept(app: &Rc<App>, body: Body, is_shared: bool) -> Result<(Body, u16), InvokeError> {
    let Some((handle, _)) = body.in_pool() else { return Ok((body, 0)) };
    if is_shared || app.pool.borrow().owns(handle) {
        return Ok((body, 0));
    }
    let mut landing = Landing::again(app, &[b""; 0], &body)?;
    // Looked at after the bytes: what was taken back before may be someone else's by now.
    if !app.pool.borrow().still_has(handle) {
        return Err(InvokeError::BadReply { what: "it took its payload back before it was sent" });
    }
    Ok((landing.take_body(), 1))
}
