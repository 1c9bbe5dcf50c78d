//! Calls from other threads whose answers are taken as they come.

use std::future::poll_fn;

use bytes::Buf;
use tokio::sync::mpsc;

use super::{DirectCall, Flow, Target};
use crate::error::InvokeError;
use crate::invoke::Reply;
use crate::stream::{Offer, Parts};

/// Parts that are ahead of whoever takes them.
const AHEAD: usize = 4;

/// What a function answers to a [`DirectCall`], its body as it comes.
#[derive(Debug)]
pub struct DirectParts {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body: parts until none comes any more; an error breaks it off. Dropping it tells the function that nobody reads on.
    pub body: mpsc::Receiver<Result<Vec<u8>, InvokeError>>,
}

impl Flow {
    /// As [`Flow::invoke`], for one who can do with an answer in parts. Where the function cannot stream, or is on another
    /// node, there is one part.
    ///
    /// # Errors
    /// Every [`InvokeError`].
    pub async fn invoke_in_parts(
        &self,
        app: &str,
        function: &str,
        call: DirectCall,
    ) -> Result<DirectParts, InvokeError> {
        let target = self.direct_target(app, function)?;
        let (head, wish) = self.direct_head(&call)?;
        let body_len = Some(call.body.len() as u64);
        let mut upload = self.begin_streamed(&target, head, body_len, (Offer::default(), wish))?;
        upload.write(&call.body)?;
        let mut reply = upload.finish().await?;
        let headers = reply.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        let status = reply.status();
        let (sender, body) = mpsc::channel(AHEAD);
        match reply.take_parts() {
            Some(parts) => drop(tokio::task::spawn_local(hand_on(parts, sender))),
            // There is room for one.
            None => drop(sender.try_send(Ok(bytes_of(reply)))),
        }
        Ok(DirectParts { status, headers, body })
    }

    pub(super) fn direct_target(&self, app: &str, function: &str) -> Result<Target, InvokeError> {
        let app = self.inner.apps.borrow().get(app).cloned().ok_or(InvokeError::Unknown)?;
        let index = app.functions.iter().position(|state| state.name.as_str() == function);
        Ok(Target { app, function: index.ok_or(InvokeError::Unknown)?, other: None, listens: None })
    }
}

pub(super) fn bytes_of(reply: Reply) -> Vec<u8> {
    let mut body = reply.into_body();
    body.copy_to_bytes(body.remaining()).to_vec()
}

/// Hands parts on until they end or nobody takes them. Who takes none holds the function up, as long as its manifest lets a stream
/// stand still.
async fn hand_on(mut parts: Box<Parts>, sender: mpsc::Sender<Result<Vec<u8>, InvokeError>>) {
    loop {
        let next = tokio::select! {
            next = poll_fn(|cx| parts.poll_next(cx)) => next,
            () = sender.closed() => return,
        };
        let part = match next {
            None => return,
            Some(Ok(mut part)) => Ok(part.body.copy_to_bytes(part.body.remaining()).to_vec()),
            Some(Err(error)) => Err(error),
        };
        if sender.send(part).await.is_err() {
            return;
        }
    }
}
