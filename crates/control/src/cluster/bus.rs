//! The way to NATS: three buckets, and the words that go past them.
//!
//! | bucket | what | kept |
//! |---|---|---|
//! | `baton-<cluster>` | `app.<name>`: a deployment; `drain.<node>`: that a node drains | on disk, the last [`VERSIONS_KEPT`] of each |
//! | `baton-<cluster>_members` | `<node>`: its row | in memory, for [`ROW_KEPT`] |
//! | `baton-<cluster>_artifacts` | executables and bundles by hash | on disk |
//!
//! What is read is read from the leader, so that a change is judged by what is there and not by what a follower still
//! believes. Changes are *heard* by plain subscriptions to the buckets' subjects, not by consumers: a subscription is renewed by
//! the client at each new connection, lives on any server, and works while nobody leads. What it misses is found by looking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::header::{HeaderMap, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::kv::{self, Store};
use async_nats::jetstream::object_store::{self, ObjectStore};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::error::{Cause, ClusterError};
use super::servers::{code_of, is_too_old, login, passes, shown, stands_alone};
use super::{ClusterOptions, Tls};
use crate::limits::{BUS_REPLY_WITHIN, ROW_KEPT, VERSIONS_KEPT, WANTED_ROWS_MAX};

/// The header that says what a row of a bucket is.
const OPERATION: &str = "KV-Operation";
const REMOVED: &str = "DEL";
const NO_ANSWER: &str = "no server answers";
/// Copies that a cluster of servers keeps.
pub(super) const COPIES: usize = 3;
/// How often the connection is tried.
const PING_EVERY: Duration = Duration::from_secs(2);

/// A connection to the store, now or again soon.
pub(super) struct Bus {
    client: Client,
    jetstream: Context,
    servers: String,
    cluster: String,
    buckets: Mutex<Option<Buckets>>,
    /// Counts connections.
    connected: watch::Receiver<u64>,
    /// Why there is none.
    why: Arc<Mutex<String>>,
}

#[derive(Clone)]
pub(super) struct Buckets {
    pub(super) wanted: Store,
    pub(super) members: Store,
    pub(super) artifacts: ObjectStore,
}

/// A row as it is in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its value; `None` if it was removed, or never was.
    pub(super) value: Option<Bytes>,
    /// What a change must name; 0 if it never was.
    pub(super) revision: u64,
}

/// Everything in a bucket, as of a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// Which bucket: another number after it was lost and made anew.
    pub(super) bucket: i128,
    /// Counts changes of the bucket.
    pub(super) revision: u64,
    /// The rows by key, removed ones left out.
    pub(super) rows: BTreeMap<String, Entry>,
}

impl Bus {
    /// Begins to connect, and goes on with that for as long as it takes.
    pub(super) async fn open(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let (count, connected) = watch::channel(0);
        let why = Arc::new(Mutex::new(NO_ANSWER.to_owned()));
        let note = Arc::clone(&why);
        let note =
            move |text: &str| text.clone_into(&mut note.lock().unwrap_or_else(PoisonError::into_inner));
        let mut connect = ConnectOptions::new()
            .name(format!("baton {}", options.node))
            .retry_on_initial_connect()
            .connection_timeout(BUS_REPLY_WITHIN)
            .request_timeout(Some(BUS_REPLY_WITHIN))
            .ping_interval(PING_EVERY)
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(100)
                    .saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX))
                    .min(Duration::from_secs(1))
            })
            .event_callback(move |event| {
                match event {
                    Event::ClientError(error) => note(&format!("{NO_ANSWER}: {error}")),
                    Event::ServerError(error) => note(&format!("the server said: {error}")),
                    Event::Connected => {
                        note(NO_ANSWER);
                        tracing::info!("the cluster's store is reachable");
                        count.send_modify(|count| *count += 1);
                    }
                    Event::Disconnected => tracing::warn!("the cluster's store is not reachable"),
                    _ => {}
                }
                std::future::ready(())
            });
        if let Some(path) = &options.credentials {
            let failed = |source| ClusterError::File { path: path.clone(), source };
            connect = connect.credentials_file(path).await.map_err(failed)?;
        }
        if let Some(Tls { cert, key, ca }) = options.tls.as_ref().filter(|_| options.is_encrypted()) {
            connect = connect
                .require_tls(true)
                .add_root_certificates(ca.clone())
                .add_client_certificate(cert.clone(), key.clone());
        }
        if let Some((user, password)) = options.servers.iter().find_map(|server| login(server)) {
            connect = connect.user_and_password(user.to_owned(), password.to_owned());
        }
        let places: Vec<String> = options.servers.iter().map(|server| shown(server)).collect();
        let servers = places.join(",");
        let refused = |error| ClusterError::Refused { servers: servers.clone(), why: Cause::from(error) };
        let client = connect.connect(places.as_slice()).await.map_err(refused)?;
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(BUS_REPLY_WITHIN)
            .ack_timeout(BUS_REPLY_WITHIN)
            .build(client.clone());
        let cluster = format!("baton-{}", options.cluster);
        Ok(Self { client, jetstream, servers, cluster, buckets: Mutex::new(None), connected, why })
    }

    /// The servers, as messages name them.
    pub(super) fn servers(&self) -> &str {
        &self.servers
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// What begins the names of all that the cluster has in the store.
    pub(super) fn prefix(&self) -> &str {
        &self.cluster
    }

    pub(super) fn jetstream(&self) -> &Context {
        &self.jetstream
    }

    /// The longest message that the servers take, in bytes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Told at each new connection.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.connected.clone()
    }

    pub(super) fn unreachable(&self, why: impl Into<Cause>) -> ClusterError {
        ClusterError::Unreachable { servers: self.servers.clone(), why: why.into() }
    }

    fn refused(&self, why: impl Into<Cause>) -> ClusterError {
        ClusterError::Refused { servers: self.servers.clone(), why: why.into() }
    }

    pub(super) fn is_up(&self) -> Result<(), ClusterError> {
        if self.is_connected() {
            return Ok(());
        }
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(self.unreachable(why))
    }

    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, ClusterError> {
        timeout(limit, work).await.map_err(|_| self.unreachable("no answer in time"))
    }

    // ---- buckets --------------------------------------------------------------------------------------------

    /// The buckets, made if they are not there. What was lost with a server's memory is so made anew.
    pub(super) async fn buckets(&self) -> Result<Buckets, ClusterError> {
        self.is_up()?;
        let known = self.buckets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let version = self.client.server_info().version;
        if is_too_old(&version) {
            return Err(self.refused(format!("nats-server {version} is too old, it takes 2.10")));
        }
        let limit = BUS_REPLY_WITHIN * 2;
        let wanted = kv::Config {
            bucket: self.cluster.clone(),
            description: "what a Baton cluster runs".to_owned(),
            history: VERSIONS_KEPT,
            ..kv::Config::default()
        };
        let members = kv::Config {
            bucket: format!("{}_members", self.cluster),
            description: "the nodes of a Baton cluster that live".to_owned(),
            history: 1,
            max_age: ROW_KEPT,
            storage: StorageType::Memory,
            ..kv::Config::default()
        };
        let buckets = Buckets {
            wanted: self.within(limit, self.rows(wanted)).await??,
            members: self.within(limit, self.rows(members)).await??,
            artifacts: self.within(limit, self.objects()).await??,
        };
        *self.buckets.lock().unwrap_or_else(PoisonError::into_inner) = Some(buckets.clone());
        Ok(buckets)
    }

    /// The stream behind the artifacts.
    pub(super) async fn artifacts_stream(&self) -> Result<Stream, ClusterError> {
        let name = format!("OBJ_{}_artifacts", self.cluster);
        self.jetstream.get_stream(name).await.map_err(|error| self.unreachable(error))
    }

    /// After an answer that may mean that a bucket is gone: they are looked for anew.
    pub(super) fn forget_buckets(&self) {
        *self.buckets.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn rows(&self, config: kv::Config) -> Result<Store, ClusterError> {
        if let Ok(store) = self.jetstream.get_key_value(&config.bucket).await {
            return Ok(store);
        }
        let copied = kv::Config { num_replicas: COPIES, ..config.clone() };
        let made = match self.jetstream.create_key_value(copied).await {
            Err(error) if stands_alone(&error) => {
                self.jetstream.create_key_value(kv::Config { num_replicas: 1, ..config }).await
            }
            made => made,
        };
        made.map_err(|error| self.not_made(error))
    }

    async fn objects(&self) -> Result<ObjectStore, ClusterError> {
        let bucket = format!("{}_artifacts", self.cluster);
        if let Ok(store) = self.jetstream.get_object_store(&bucket).await {
            return Ok(store);
        }
        let description = Some("what the functions of a Baton cluster run".to_owned());
        let copied = object_store::Config { bucket, description, num_replicas: COPIES, ..Default::default() };
        let made = match self.jetstream.create_object_store(copied.clone()).await {
            Err(error) if stands_alone(&error) => {
                self.jetstream.create_object_store(object_store::Config { num_replicas: 1, ..copied }).await
            }
            made => made,
        };
        made.map_err(|error| self.not_made(error))
    }

    /// Only what the servers say for good is a refusal; all else passes when they have found together.
    pub(super) fn not_made(&self, error: impl Into<Cause>) -> ClusterError {
        let error: Cause = error.into();
        let is_final = match code_of(error.as_ref()) {
            Some(code) => !passes(code),
            None => !self.client.server_info().jetstream,
        };
        if is_final { self.refused(error) } else { self.unreachable(error) }
    }

    // ---- rows -----------------------------------------------------------------------------------------------

    /// A row, from the leader.
    pub(super) async fn read(&self, store: &Store, key: &str) -> Result<Entry, ClusterError> {
        self.is_up()?;
        let subject = format!("{}{key}", store.prefix);
        match self.within(BUS_REPLY_WITHIN, store.stream.get_last_raw_message_by_subject(&subject)).await? {
            Ok(message) => {
                let removed = message.headers.get(OPERATION).is_some();
                let value = (!removed).then_some(message.payload);
                Ok(Entry { value, revision: message.sequence })
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Entry::default()),
            Err(error) => {
                self.forget_buckets();
                Err(self.unreachable(error))
            }
        }
    }

    /// Changes a row, or removes it, if its revision is still `revision`; gives the new one.
    pub(super) async fn write(
        &self,
        store: &Store,
        key: &str,
        value: Option<Bytes>,
        revision: u64,
    ) -> Result<u64, ClusterError> {
        self.is_up()?;
        let most = self.client.max_payload();
        let bytes = value.as_ref().map_or(0, Bytes::len);
        if bytes > most {
            return Err(ClusterError::TooLarge { what: key.to_owned(), bytes, most });
        }
        let result = self.publish(store, key, value.clone(), revision).await;
        let Err(error) = result else { return result };
        // The answer may have been lost, not the change: what is there now decides.
        let now = self.read(store, key).await;
        match now {
            Ok(now) if now.revision > revision && now.value == value => Ok(now.revision),
            _ => Err(error),
        }
    }

    async fn publish(
        &self,
        store: &Store,
        key: &str,
        value: Option<Bytes>,
        revision: u64,
    ) -> Result<u64, ClusterError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        if value.is_none() {
            headers.insert(OPERATION, REMOVED);
        }
        let subject = format!("{}{key}", store.prefix);
        let sent = self.jetstream.publish_with_headers(subject, headers, value.unwrap_or_default());
        let sent = async { sent.await?.await };
        match self.within(BUS_REPLY_WITHIN, sent).await? {
            Ok(ack) => Ok(ack.sequence),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Err(ClusterError::Conflict { what: key.to_owned() })
            }
            Err(error) => {
                self.forget_buckets();
                Err(self.unreachable(error))
            }
        }
    }

    /// Puts this node's row among the members, whatever was there. Everybody hears it at once; the answer says whether the
    /// store has taken it too.
    pub(super) async fn put_member(&self, node: &str, row: Bytes) -> Result<(), ClusterError> {
        self.is_up()?;
        let most = self.client.max_payload();
        if row.len() > most {
            return Err(ClusterError::TooLarge { what: format!("node {node}"), bytes: row.len(), most });
        }
        let subject = format!("$KV.{}_members.{node}", self.cluster);
        let sent = async { self.jetstream.publish(subject, row).await?.await };
        match self.within(BUS_REPLY_WITHIN, sent).await? {
            Ok(_) => Ok(()),
            Err(error) => {
                self.forget_buckets();
                // A server that kept it in its memory may have been started anew.
                self.buckets().await?;
                Err(self.unreachable(error))
            }
        }
    }

    /// Every row of a bucket, if it changed since `known`.
    pub(super) async fn contents(
        &self,
        store: &Store,
        known: Option<(i128, u64)>,
    ) -> Result<Option<Contents>, ClusterError> {
        self.is_up()?;
        let failed = |error: Cause| {
            self.forget_buckets();
            self.unreachable(error)
        };
        let info = self.within(BUS_REPLY_WITHIN, store.stream.get_info()).await?;
        let info = info.map_err(|error| failed(error.into()))?;
        let (bucket, revision) = (info.created.unix_timestamp_nanos(), info.state.last_sequence);
        if known == Some((bucket, revision)) {
            return Ok(None);
        }
        let subjects = async {
            let all = format!("{}>", store.prefix);
            let mut subjects = store.stream.info_with_subjects(all).await.map_err(Cause::from)?;
            let mut keys = Vec::new();
            while let Some((subject, _)) = subjects.try_next().await.map_err(Cause::from)? {
                keys.extend(subject.strip_prefix(&store.prefix).map(str::to_owned));
                if keys.len() > WANTED_ROWS_MAX {
                    return Err(format!("there are more than {WANTED_ROWS_MAX} rows").into());
                }
            }
            Ok(keys)
        };
        let keys = self.within(BUS_REPLY_WITHIN, subjects).await?.map_err(failed)?;
        let mut rows = BTreeMap::new();
        for key in keys {
            let entry = self.read(store, &key).await?;
            if entry.value.is_some() {
                rows.insert(key, entry);
            }
        }
        Ok(Some(Contents { bucket, revision, rows }))
    }

    /// The rows that a key had, oldest first: with `None` where it was removed.
    pub(super) async fn history(&self, key: &str) -> Result<Vec<Option<Bytes>>, ClusterError> {
        let store = self.buckets().await?.wanted;
        let read = async {
            let mut history = store.history(key).await.map_err(Cause::from)?;
            let mut rows = Vec::new();
            while let Some(entry) = history.next().await {
                let entry = entry.map_err(Cause::from)?;
                rows.push((entry.operation == kv::Operation::Put).then_some(entry.value));
            }
            Ok(rows)
        };
        self.within(BUS_REPLY_WITHIN, read).await?.map_err(|error: Cause| self.unreachable(error))
    }

    /// Hears every change of a bucket, from whichever server, as long as there is a connection.
    pub(super) async fn hear(&self, bucket: Bucket) -> Result<Subscriber, ClusterError> {
        let subject = match bucket {
            Bucket::Wanted => format!("$KV.{}.>", self.cluster),
            Bucket::Members => format!("$KV.{}_members.>", self.cluster),
        };
        self.client.subscribe(subject).await.map_err(|error| self.unreachable(error))
    }

    /// Sends what is to be sent, for who is about to end.
    pub(super) async fn flush(&self) {
        let _ = self.client.flush().await;
    }
}

/// A bucket that can be listened to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bucket {
    Wanted,
    Members,
}

/// The key of a message of [`Bus::hear`], and whether it removes it.
pub(super) fn key_of(message: &async_nats::Message) -> Option<(&str, bool)> {
    // `$KV.BUCKET.KEY`
    let (_, key) = message.subject.as_str().strip_prefix("$KV.")?.split_once('.')?;
    let removed = message.headers.as_ref().is_some_and(|headers| headers.get(OPERATION).is_some());
    Some((key, removed))
}
