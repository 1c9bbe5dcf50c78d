//! Trying events.

use std::sync::Arc;
use std::time::Duration;

use baton_flow::{DirectCall, InvokeError};
use tokio::time::{Instant, sleep, sleep_until};

use super::book::{Change, Event, Known};
use super::retry::{Came, Fate, Tries, judge};
use super::{Events, known, name, now_ms};
use crate::limits::{EVENT_WRITE_AGAIN, EVENTS_AT_ONCE_MAX};

/// Which event a try is of.
const EVENT_HEADER: &str = "x-baton-event";
/// Which try it is, from 1.
const ATTEMPT_HEADER: &str = "x-baton-attempt";
/// What a dead letter's event had come to, and at whom.
const LETTER_HEADERS: [&str; 4] =
    ["x-baton-failed-event", "x-baton-failed-function", "x-baton-failed-attempts", "x-baton-failed-error"];

impl Events {
    /// Tries what is due, until the future is dropped. What is being tried then is tried again after the next start.
    pub async fn run(self: Arc<Self>) {
        tokio::spawn(Arc::clone(&self).keep_time());
        tokio::spawn(Arc::clone(&self).keep_shared());
        loop {
            let next = {
                let concurrency = |app: &str, function: &str| {
                    // What is not deployed is looked at one at a time.
                    self.settings(app, function).map_or(1, |settings| settings.concurrency)
                };
                self.lanes().take(now_ms(), EVENTS_AT_ONCE_MAX, concurrency)
            };
            match next {
                Ok((id, known)) => {
                    let events = Arc::clone(&self);
                    tokio::spawn(async move { events.attempt(id, known).await });
                }
                Err(None) => self.stirred.notified().await,
                Err(Some(due_ms)) => {
                    let wait = Duration::from_millis(due_ms.saturating_sub(now_ms()));
                    tokio::select! {
                        () = self.stirred.notified() => {}
                        () = sleep_until(Instant::now() + wait.min(Duration::from_secs(60))) => {}
                    }
                }
            }
        }
    }

    async fn attempt(&self, id: u64, before: Known) {
        let event = loop {
            match self.book.event(id).await {
                Ok(event) => break event,
                // It is not lost while the disk cannot be read.
                Err(_) => sleep(EVENT_WRITE_AGAIN).await,
            }
        };
        let Some(event) = event else {
            tracing::error!(event = name(id), "an event is gone from the disk");
            self.lanes().done(id, &before);
            return self.stirred.notify_one();
        };
        let settings = self.settings(&before.app, &before.function);
        let came = match &settings {
            Some(_) => self.call(id, &event, &before.tries).await,
            None => Came::NotBegun(format!("no function {}/{} is deployed", before.app, before.function)),
        };
        let settings = settings.unwrap_or_default();
        let share = share_of(id, before.tries.attempts);
        match judge(&settings, before.accepted_ms, &before.tries, &came, (now_ms(), share)) {
            Fate::Done => {
                self.write(|| Change::Done(id)).await;
                self.lanes().done(id, &before);
            }
            Fate::Again(tries) => {
                // A death that loses this costs an attempt more.
                let _ = self.book.write_lazily(Change::Tried(id, tries.clone()));
                self.lanes().again(id, &before, tries);
            }
            Fate::Dead(tries) => {
                let letter = settings.dead_letter.as_ref().map(|function| function.as_str());
                self.bury(id, &before, &event, letter, tries).await;
            }
        }
        self.stirred.notify_one();
    }

    pub(super) async fn call(&self, id: u64, event: &Event, tries: &Tries) -> Came {
        let mut headers = event.headers.clone();
        headers.push((EVENT_HEADER.to_owned(), name(id).into_bytes()));
        headers.push((ATTEMPT_HEADER.to_owned(), tries.attempts.saturating_add(1).to_string().into_bytes()));
        let call = DirectCall {
            method: event.method.clone(),
            path: event.path.clone(),
            headers,
            body: event.body.clone(),
        };
        match self.plane.invoke(event.app.clone(), event.function.clone(), call).await {
            Ok(Ok(reply)) => Came::Answer(reply.status),
            Ok(Err(InvokeError::Function { status, .. })) if status >= 400 => Came::Answer(status),
            Ok(Err(error)) => Came::Nothing(error),
            Err(gone) => Came::NotBegun(gone.to_string()),
        }
    }

    /// Puts an event away that has come to nothing: with its function of last resort, or where people look.
    async fn bury(&self, id: u64, before: &Known, event: &Event, letter: Option<&str>, tries: Tries) {
        tell_of_end(id, &before.app, &before.function, &tries);
        let letter = letter.map(|to| letter_of(id, event, to, &tries));
        let admitted = letter.and_then(|letter| {
            let admitted = self.lanes().admit_anyway(&known(&letter));
            admitted.ok().map(|next| (next, Arc::new(letter)))
        });
        match &admitted {
            Some((next, letter)) => self.write(|| Change::Letter(id, *next, Arc::clone(letter))).await,
            None => self.write(|| Change::Dead(id, tries.clone())).await,
        }
        let mut lanes = self.lanes();
        lanes.dead(id, before);
        if let Some((next, _)) = admitted {
            lanes.ready(next);
        }
    }

    /// Writes until it is written: the event would be tried again otherwise.
    async fn write(&self, change: impl Fn() -> Change) {
        while self.book.write(change()).await.is_err() {
            sleep(EVENT_WRITE_AGAIN).await;
        }
    }
}

pub(super) fn tell_of_end(id: u64, app: &str, function: &str, tries: &Tries) {
    let Tries { attempts, error, .. } = tries;
    tracing::warn!(event = name(id), app, function, attempts, error, "an event came to nothing");
}

/// What a function of last resort gets: the body as it was, and what it came to.
pub(super) fn letter_of(id: u64, event: &Event, to: &str, tries: &Tries) -> Event {
    let mut headers = event.headers.clone();
    headers.retain(|(name, _)| !LETTER_HEADERS.contains(&name.as_str()));
    // Header values hold no line breaks.
    let error: String = tries.error.chars().filter(|character| !character.is_control()).take(512).collect();
    let values = [name(id), event.function.clone(), tries.attempts.to_string(), error];
    for (name, value) in LETTER_HEADERS.iter().zip(values) {
        headers.push(((*name).to_owned(), value.into_bytes()));
    }
    Event { function: to.to_owned(), headers, accepted_ms: now_ms(), ..event.clone() }
}

/// A number from 0 to 1 that differs from event to event.
pub(super) fn share_of(id: u64, attempts: u32) -> f64 {
    let hash = blake3::hash(&[&id.to_le_bytes()[..], &attempts.to_le_bytes()[..]].concat());
    let bytes = hash.as_bytes();
    f64::from(u16::from_le_bytes([bytes[0], bytes[1]])) / f64::from(u16::MAX)
}
