//! Events in the cluster's store.
//!
//! | stream | subject of a message | kept |
//! |---|---|---|
//! | `baton-<cluster>_events` | `baton-<cluster>.events.<app>.<function>` | on disk, until it is acknowledged |
//! | `baton-<cluster>_dead` | `baton-<cluster>.dead.<event>` | on disk, the last [`EVENTS_DEAD_MAX`] |
//!
//! A function's events have a consumer of their own, which any node asks for the next: one function that cannot keep up holds up no
//! other. Whoever was given an event says again and again that it is at work; after [`SILENCE_MAX`] without a word another node gets it.
//! Consumers are state on a server, which [ADR 0012](../../../../docs/adr/0012-a-cluster-hears-and-looks.md) avoids for what has to
//! be known within seconds; events may wait until that server's successor has taken over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{AckKind, Message};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::Cluster;
use super::bus::COPIES;
use super::error::{Cause, ClusterError};
use super::servers::stands_alone;
use crate::limits::{BUS_REPLY_WITHIN, EVENTS_DEAD_MAX, EVENTS_SHARED_MAX};

/// How long whoever has an event may say nothing until another node gets it.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(6);
/// How long the next event is waited for in one question.
pub(crate) const PULL_WITHIN: Duration = Duration::from_secs(5);
/// How long an event may lie in the store at all: a day more than a manifest may say.
const KEPT: Duration = Duration::from_secs(15 * 86_400);
/// How long a message is known by its name, so that the same one is not taken twice.
const KNOWN: Duration = Duration::from_secs(120);
/// How long a function's consumer is kept that nobody asks.
const UNASKED: Duration = Duration::from_secs(86_400);
/// What is known of a dead one, without its body.
const ABOUT: &str = "Baton-About";

/// A function's events: its app, and its name. Neither holds a dot or an underscore.
pub(crate) type Lane = (String, String);

/// The next events of a function.
pub(crate) type Pull = Consumer<pull::Config>;

/// What waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    /// Events by function.
    pub(crate) lanes: BTreeMap<Lane, u64>,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
}

/// An event that came to nothing.
pub(crate) struct Dead {
    sequence: u64,
    /// The event itself.
    pub(crate) row: Bytes,
}

/// The streams of a cluster's events.
pub(crate) struct Queue {
    cluster: Arc<Cluster>,
    streams: Mutex<Option<Streams>>,
}

#[derive(Clone)]
struct Streams {
    waiting: Stream,
    dead: Stream,
}

impl Queue {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, streams: Mutex::new(None) }
    }

    /// Whether this node is about to leave and takes nothing more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.cluster.is_leaving()
    }

    fn prefix(&self) -> &str {
        self.cluster.bus.prefix()
    }

    fn subject(&self, (app, function): &Lane) -> String {
        format!("{}.events.{app}.{function}", self.prefix())
    }

    fn lane(&self, subject: &str) -> Option<Lane> {
        let (app, function) =
            subject.strip_prefix(self.prefix())?.strip_prefix(".events.")?.split_once('.')?;
        Some((app.to_owned(), function.to_owned()))
    }

    /// After an answer that may mean that a stream is gone: they are looked for anew.
    fn lost(&self, why: impl Into<Cause>) -> ClusterError {
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.cluster.bus.unreachable(why)
    }

    // ---- streams --------------------------------------------------------------------------------------------

    /// The streams, made if they are not there.
    async fn streams(&self) -> Result<Streams, ClusterError> {
        self.cluster.bus.is_up()?;
        let known = self.streams.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let prefix = self.prefix();
        let waiting = Config {
            name: format!("{prefix}_events"),
            description: Some("events of a Baton cluster that are not done".to_owned()),
            subjects: vec![format!("{prefix}.events.>")],
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            max_messages: EVENTS_SHARED_MAX,
            max_age: KEPT,
            duplicate_window: KNOWN,
            storage: StorageType::File,
            num_replicas: COPIES,
            ..Config::default()
        };
        let dead = Config {
            name: format!("{prefix}_dead"),
            description: Some("events of a Baton cluster that came to nothing".to_owned()),
            subjects: vec![format!("{prefix}.dead.>")],
            discard: DiscardPolicy::Old,
            max_messages: i64::try_from(EVENTS_DEAD_MAX).unwrap_or(i64::MAX),
            max_messages_per_subject: 1,
            storage: StorageType::File,
            num_replicas: COPIES,
            ..Config::default()
        };
        let limit = BUS_REPLY_WITHIN * 2;
        let streams = Streams {
            waiting: self.cluster.bus.within(limit, self.stream(waiting)).await??,
            dead: self.cluster.bus.within(limit, self.stream(dead)).await??,
        };
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) = Some(streams.clone());
        Ok(streams)
    }

    async fn stream(&self, config: Config) -> Result<Stream, ClusterError> {
        let jetstream = self.cluster.bus.jetstream();
        if let Ok(stream) = jetstream.get_stream(&config.name).await {
            return Ok(stream);
        }
        let made = match jetstream.create_stream(config.clone()).await {
            Err(error) if stands_alone(&error) => {
                jetstream.create_stream(Config { num_replicas: 1, ..config }).await
            }
            made => made,
        };
        made.map_err(|error| self.cluster.bus.not_made(error))
    }

    // ---- events that wait -----------------------------------------------------------------------------------

    /// Adds an event: it is on the disks of the store when this returns. One that is known by its name already is not added again.
    pub(crate) async fn put(&self, lane: &Lane, name: &str, row: Bytes) -> Result<(), ClusterError> {
        self.streams().await?;
        self.publish(self.subject(lane), HeaderMap::new(), name, row).await
    }

    async fn publish(
        &self,
        subject: String,
        mut headers: HeaderMap,
        name: &str,
        row: Bytes,
    ) -> Result<(), ClusterError> {
        /// What a server counts beside the payload: headers of ours, which hold a short error at most.
        const HEADERS_BYTES: usize = 4096;
        let most = self.cluster.bus.max_payload().saturating_sub(HEADERS_BYTES);
        if row.len() > most {
            return Err(ClusterError::TooLarge { what: format!("event {name}"), bytes: row.len(), most });
        }
        headers.insert(NATS_MESSAGE_ID, name);
        let jetstream = self.cluster.bus.jetstream();
        let sent = async { jetstream.publish_with_headers(subject, headers, row).await?.await };
        match self.cluster.bus.within(BUS_REPLY_WITHIN, sent).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// What waits, of all functions or of one.
    pub(crate) async fn waiting(&self, of: Option<&Lane>) -> Result<Waiting, ClusterError> {
        let stream = self.streams().await?.waiting;
        let filter = of.map_or_else(|| format!("{}.events.>", self.prefix()), |lane| self.subject(lane));
        let read = async {
            let mut subjects = stream.info_with_subjects(filter).await.map_err(Cause::from)?;
            let mut waiting = Waiting { bytes: subjects.info.state.bytes, ..Waiting::default() };
            while let Some((subject, count)) = subjects.try_next().await.map_err(Cause::from)? {
                waiting.lanes.extend(self.lane(&subject).map(|lane| (lane, count as u64)));
            }
            Ok(waiting)
        };
        self.cluster.bus.within(BUS_REPLY_WITHIN, read).await?.map_err(|error: Cause| self.lost(error))
    }

    /// When the oldest event of a function came, milliseconds since the epoch.
    pub(crate) async fn oldest_ms(&self, lane: &Lane) -> Result<Option<u64>, ClusterError> {
        let stream = self.streams().await?.waiting;
        let first = stream.get_first_raw_message_by_subject(self.subject(lane), 1);
        let first = self.cluster.bus.within(BUS_REPLY_WITHIN, first).await?;
        Ok(first.ok().and_then(|message| u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).ok()))
    }

    /// Where a function's events come from.
    pub(crate) async fn consumer(&self, lane: &Lane) -> Result<Pull, ClusterError> {
        let stream = self.streams().await?.waiting;
        let name = format!("{}_{}", lane.0, lane.1);
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: self.subject(lane),
            ack_policy: AckPolicy::Explicit,
            ack_wait: SILENCE_MAX,
            // What is to be tried again later counts as not acknowledged: no bound of its own may keep the others back.
            max_ack_pending: EVENTS_SHARED_MAX,
            max_deliver: -1,
            inactive_threshold: UNASKED,
            ..pull::Config::default()
        };
        let made = stream.get_or_create_consumer(&name, config);
        self.cluster.bus.within(BUS_REPLY_WITHIN, made).await?.map_err(|error| self.lost(error))
    }

    /// The next events of a function, up to so many, as they come; it ends when there were none for a while.
    pub(crate) async fn next(
        &self,
        consumer: &Pull,
        most: usize,
        mut each: impl FnMut(Message),
    ) -> Result<(), ClusterError> {
        let asked = consumer.batch().max_messages(most).expires(PULL_WITHIN).messages();
        let mut messages =
            self.cluster.bus.within(BUS_REPLY_WITHIN, asked).await?.map_err(|error| self.lost(error))?;
        // A server that died says nothing more.
        while let Ok(Some(message)) = timeout(PULL_WITHIN + BUS_REPLY_WITHIN, messages.next()).await {
            each(message.map_err(|error| self.lost(error))?);
        }
        Ok(())
    }

    // ---- events that came to nothing ------------------------------------------------------------------------

    /// Keeps an event that came to nothing, with what is known of it.
    pub(crate) async fn bury(&self, name: &str, about: &str, row: Bytes) -> Result<(), ClusterError> {
        self.streams().await?;
        let mut headers = HeaderMap::new();
        headers.insert(ABOUT, about);
        self.publish(format!("{}.dead.{name}", self.prefix()), headers, &format!("dead {name}"), row).await
    }

    /// What is known of those that came to nothing, newest first.
    pub(crate) async fn dead(&self) -> Result<Vec<String>, ClusterError> {
        let stream = self.streams().await?.dead;
        let read = async {
            let count = stream.get_info().await.map_err(Cause::from)?.state.messages;
            let mut dead = Vec::new();
            if count == 0 {
                return Ok(dead);
            }
            let config = pull::Config {
                ack_policy: AckPolicy::None,
                headers_only: true,
                memory_storage: true,
                inactive_threshold: SILENCE_MAX,
                ..pull::Config::default()
            };
            let consumer = stream.create_consumer(config).await.map_err(Cause::from)?;
            let most = usize::try_from(count.min(EVENTS_DEAD_MAX)).unwrap_or(0);
            let mut messages = consumer.fetch().max_messages(most).messages().await.map_err(Cause::from)?;
            while let Some(message) = messages.next().await {
                let message = message?;
                let about = message.headers.as_ref().and_then(|headers| headers.get(ABOUT));
                dead.extend(about.map(|about| about.as_str().to_owned()));
            }
            let _ = stream.delete_consumer(&consumer.cached_info().name).await;
            dead.reverse();
            Ok(dead)
        };
        self.cluster.bus.within(BUS_REPLY_WITHIN * 2, read).await?.map_err(|error: Cause| self.lost(error))
    }

    /// One that came to nothing.
    pub(crate) async fn dead_one(&self, name: &str) -> Result<Option<Dead>, ClusterError> {
        let stream = self.streams().await?.dead;
        let subject = format!("{}.dead.{name}", self.prefix());
        let found = stream.get_last_raw_message_by_subject(&subject);
        match self.cluster.bus.within(BUS_REPLY_WITHIN, found).await? {
            Ok(message) => Ok(Some(Dead { sequence: message.sequence, row: message.payload })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Removes one that came to nothing.
    pub(crate) async fn forget(&self, dead: &Dead) -> Result<(), ClusterError> {
        let stream = self.streams().await?.dead;
        let removed = self.cluster.bus.within(BUS_REPLY_WITHIN, stream.delete_message(dead.sequence)).await?;
        removed.map(drop).map_err(|error| self.lost(error))
    }
}

/// Which event a message is, and how often it was given to somebody, this time included.
pub(crate) fn identity(message: &Message) -> Option<(u64, u32)> {
    let name = message.headers.as_ref()?.get(NATS_MESSAGE_ID)?;
    let delivered = message.info().ok()?.delivered;
    Some((u64::from_str_radix(name.as_str(), 16).ok()?, u32::try_from(delivered).unwrap_or(1)))
}

/// Says that the event is being worked at, until the future is dropped.
pub(crate) async fn say_at_work(message: &Message) {
    loop {
        tokio::time::sleep(SILENCE_MAX / 3).await;
        // Where it is not heard, another node gets the event, too.
        let _ = message.ack_with(AckKind::Progress).await;
    }
}

/// Removes an event from the queue; says whether the store has heard it.
pub(crate) async fn settle(message: &Message) -> bool {
    message.double_ack().await.is_ok()
}

/// Has an event given to somebody again, after a pause. Where it is not heard, that happens after [`SILENCE_MAX`].
pub(crate) async fn put_off(message: &Message, pause: Duration) {
    let _ = message.ack_with(AckKind::Nak(Some(pause))).await;
}
