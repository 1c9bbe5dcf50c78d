//! Payloads that the node holds, read where they lie.

use std::rc::Rc;

use baton_pool::capability::Handle;
use baton_pool::ledger::Place;
use baton_pool::region::View;
use bytes::Buf;

use crate::app::App;
use crate::slots::RawReply;

/// Bytes of a function's error message that are kept.
const MESSAGE_BYTES_MAX: u64 = 8 * 1024;
/// Room behind an answer's head for what policies add to it.
const HEAD_ROOM: usize = 64;

enum Bytes {
    Pool(View),
    Inline([u8; 8], usize, usize),
}

/// A body in the pool. Its buffer goes back when this is dropped.
pub struct Body {
    app: Rc<App>,
    bytes: Bytes,
    handle: Option<Handle>,
}

impl Body {
    /// What came: the head in private memory, the body where it lies. The head's own buffer, if it has one, goes back.
    pub(crate) fn with_head(app: &Rc<App>, raw: &RawReply) -> (Vec<u8>, Body) {
        let mapping = app.pool.borrow().mapping().clone();
        let view = |place: Place| View::new(&mapping, place.offset, place.capacity);
        // Headers are decided by: they are read once, into private memory.
        let head = raw.head.and_then(|(_, place)| view(place));
        let head = head.map_or_else(Vec::new, |view| view.to_vec_with_room(HEAD_ROOM));
        if let Some((Some(handle), _)) = raw.head {
            app.release(handle);
        }
        let bytes = match (raw.body, raw.inline) {
            (Some((_, place)), _) => view(place).map_or(Bytes::Inline([0; 8], 0, 0), Bytes::Pool),
            (None, Some((bytes, len))) => Bytes::Inline(bytes, 0, len),
            (None, None) => Bytes::Inline([0; 8], 0, 0),
        };
        (head, Body { app: Rc::clone(app), bytes, handle: raw.body.map(|(handle, _)| handle) })
    }

    /// What the node itself holds at `place`; empty without one.
    pub(crate) fn landed(app: &Rc<App>, place: Option<(Handle, Place)>) -> Body {
        let view = place.and_then(|(_, place)| {
            View::new(app.pool.borrow().mapping(), place.offset, place.capacity)
                .filter(|view| !view.is_empty())
        });
        let bytes = view.map_or(Bytes::Inline([0; 8], 0, 0), Bytes::Pool);
        Body { app: Rc::clone(app), bytes, handle: place.map(|(handle, _)| handle) }
    }

    /// Where in the pool it lies, and by which capability, if it does.
    pub(crate) fn in_pool(&self) -> Option<(Handle, View)> {
        match (&self.bytes, self.handle) {
            (Bytes::Pool(view), Some(handle)) => Some((handle, view.clone())),
            _ => None,
        }
    }

    /// A private copy of all of it.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        match &self.bytes {
            Bytes::Pool(view) => view.to_vec(),
            Bytes::Inline(..) => self.chunk().to_vec(),
        }
    }

    /// The beginning as text, of a private copy: the function could still change what lies in the pool.
    pub(crate) fn text(&self) -> String {
        let copy = match &self.bytes {
            Bytes::Pool(view) => view.first(MESSAGE_BYTES_MAX).to_vec(),
            Bytes::Inline(..) => self.chunk().to_vec(),
        };
        String::from_utf8_lossy(&copy).into_owned()
    }
}

impl Buf for Body {
    fn remaining(&self) -> usize {
        match &self.bytes {
            Bytes::Pool(view) => usize::try_from(view.len()).unwrap_or(usize::MAX),
            Bytes::Inline(_, from, to) => to - from,
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Pool(view) => view.pass_on(),
            Bytes::Inline(bytes, from, to) => bytes.get(*from..*to).unwrap_or_default(),
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.bytes {
            Bytes::Pool(view) => view.advance(count as u64),
            Bytes::Inline(_, from, to) => *from = (*from + count).min(*to),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.app.release(handle);
        }
    }
}
