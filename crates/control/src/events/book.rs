//! Events on the disk of this node.
//!
//! | table | row |
//! |---|---|
//! | `waiting` | by number: an event |
//! | `tries` | by number: what its tries came to, once there was one |
//! | `dead` | by number: an event that came to nothing, with its tries |
//!
//! One thread writes. What came while it wrote is written next, all of it in one transaction, so that many events that
//! come at once cost the disk little more than one. An event is accepted once it is on the disk; that it is done is written when
//! there is something to write anyway, or a moment later: what a death loses of that is done twice.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use baton_flow::DirectCall;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::retry::Tries;
use super::{EventFault, now_ms};
use crate::disk::Disk;
use crate::limits::{EVENTS_CACHE_BYTES, EVENTS_DEAD_MAX};
use crate::store::StoreError;

const WAITING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("waiting");
const TRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tries");
const DEAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead");

/// Changes that may wait for the disk.
const CHANGES_MAX: usize = 4096;
/// Changes of one transaction.
const BATCH_MAX: usize = 512;
/// How long changes wait that nobody waits for.
const LAZY: Duration = Duration::from_millis(50);
/// Between two tries to write while that fails.
const AGAIN: Duration = Duration::from_millis(500);
/// In front of a row: how long its header is.
const HEADER_LEN_BYTES: usize = 4;

/// One call that nobody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The app.
    pub app: String,
    /// The function.
    pub function: String,
    /// The method.
    pub method: String,
    /// The path, with a query if there is one.
    pub path: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// When it was accepted, milliseconds since the epoch.
    pub accepted_ms: u64,
    /// The body.
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl Event {
    /// A call that comes now.
    #[must_use]
    pub fn new(app: String, function: String, call: DirectCall) -> Self {
        let DirectCall { method, path, headers, body } = call;
        Self { app, function, method, path, headers, accepted_ms: now_ms(), body }
    }
}

/// What is remembered of an event between its tries.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) app: String,
    pub(crate) function: String,
    pub(crate) accepted_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) tries: Tries,
}

/// Something to be written.
#[derive(Debug)]
pub(crate) enum Change {
    /// An event is accepted.
    Add(u64, Arc<Event>),
    /// It was tried, and will be again.
    Tried(u64, Tries),
    /// It is done, or nobody wants it any more.
    Done(u64),
    /// It came to nothing, and is kept to be looked at.
    Dead(u64, Tries),
    /// It came to nothing, and another one is made of it.
    Letter(u64, u64, Arc<Event>),
    /// One that had come to nothing begins anew, under another number.
    Revive(u64, u64, Arc<Event>),
    /// One that had come to nothing is removed.
    Forget(u64),
}

struct Order {
    change: Change,
    /// Who waits until it is on the disk.
    done: Option<oneshot::Sender<Result<(), Arc<StoreError>>>>,
}

/// The file, and the thread that writes it.
pub(crate) struct Book {
    file: Arc<BookFile>,
    orders: SyncSender<Order>,
}

struct BookFile(Disk);

impl Book {
    /// Opens the file, or makes it, and begins to write.
    ///
    /// # Errors
    /// The file is damaged or cannot be written.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Arc::new(BookFile(Disk::new(path, EVENTS_CACHE_BYTES)));
        file.0.with(|database| {
            let change = database.begin_write()?;
            change.open_table(WAITING)?;
            change.open_table(TRIES)?;
            change.open_table(DEAD)?;
            Ok(change.commit()?)
        })?;
        let (orders, inbox) = sync_channel(CHANGES_MAX);
        let writer = Arc::clone(&file);
        std::thread::Builder::new()
            .name("baton-events".to_owned())
            .spawn(move || writer.write_all(&inbox))
            .map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        Ok(Self { file, orders })
    }

    /// Has a change written, and waits until it is on the disk.
    pub(crate) async fn write(&self, change: Change) -> Result<(), EventFault> {
        let (done, written) = oneshot::channel();
        self.order(Order { change, done: Some(done) })?;
        let written = written.await.unwrap_or_else(|_| Err(Arc::new(self.gone())));
        written.map_err(EventFault::Disk)
    }

    /// Has a change written soon.
    pub(crate) fn write_lazily(&self, change: Change) -> Result<(), EventFault> {
        self.order(Order { change, done: None })
    }

    fn order(&self, order: Order) -> Result<(), EventFault> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => EventFault::Busy,
            TrySendError::Disconnected(_) => EventFault::Disk(Arc::new(self.gone())),
        })
    }

    fn gone(&self) -> StoreError {
        let source = io::Error::other("the thread that writes it has ended");
        StoreError::Io { path: self.file.0.path().to_owned(), source }
    }

    /// One event that waits, from the disk.
    pub(crate) async fn event(&self, id: u64) -> Result<Option<Event>, StoreError> {
        self.read(move |database| {
            let read = database.begin_read()?;
            let row = read.open_table(WAITING)?.get(id)?;
            Ok(row.and_then(|row| decode(row.value())))
        })
        .await
    }

    /// Those that came to nothing, newest first, without their bodies.
    pub(crate) async fn dead(&self) -> Result<Vec<(u64, Event, Tries)>, StoreError> {
        self.read(|database| {
            let read = database.begin_read()?;
            let tries = read.open_table(TRIES)?;
            let mut dead = Vec::new();
            for row in read.open_table(DEAD)?.iter()?.rev() {
                let (id, row) = row?;
                let Some(event) = decode(row.value()) else { continue };
                dead.push((id.value(), Event { body: Vec::new(), ..event }, tries_of(&tries, id.value())?));
            }
            Ok(dead)
        })
        .await
    }

    /// One that came to nothing.
    pub(crate) async fn dead_one(&self, id: u64) -> Result<Option<Event>, StoreError> {
        self.read(move |database| {
            let read = database.begin_read()?;
            let row = read.open_table(DEAD)?.get(id)?;
            Ok(row.and_then(|row| decode(row.value())))
        })
        .await
    }

    /// All that waits, as of the start.
    pub(crate) fn waiting(&self) -> Result<BTreeMap<u64, Known>, StoreError> {
        self.file.0.with(|database| {
            let read = database.begin_read()?;
            let tries = read.open_table(TRIES)?;
            let mut waiting = BTreeMap::new();
            for row in read.open_table(WAITING)?.iter()? {
                let (id, row) = row?;
                let id = id.value();
                let Some(event) = decode(row.value()) else {
                    tracing::error!(event = id, "an event cannot be read; it stays where it is");
                    continue;
                };
                let Event { app, function, accepted_ms, body, .. } = event;
                let bytes = body.len() as u64;
                let tries = tries_of(&tries, id)?;
                waiting.insert(id, Known { app, function, accepted_ms, bytes, tries });
            }
            Ok(waiting)
        })
    }

    /// The highest number that any event has.
    pub(crate) fn last(&self) -> Result<u64, StoreError> {
        self.file.0.with(|database| {
            let read = database.begin_read()?;
            let highest = |table| -> Result<u64, redb::Error> {
                Ok(read.open_table(table)?.last()?.map_or(0, |(id, _)| id.value()))
            };
            Ok(highest(WAITING)?.max(highest(DEAD)?))
        })
    }

    async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, redb::Error> + Send + 'static,
    ) -> Result<R, StoreError> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || file.0.with(work)).await;
        read.unwrap_or_else(|_| Err(StoreError::Unintelligible { path: self.file.0.path().to_owned() }))
    }
}

impl BookFile {
    /// Writes what comes, until nobody is left who could send any more.
    fn write_all(&self, inbox: &Receiver<Order>) {
        let mut kept = Vec::new();
        loop {
            let (batch, has_ended) = gather(inbox, kept);
            kept = self.write_batch(batch);
            if has_ended {
                return;
            }
        }
    }

    /// Writes a batch; gives back what could not be written and still should be.
    fn write_batch(&self, batch: Vec<Order>) -> Vec<Order> {
        if batch.is_empty() {
            return batch;
        }
        let result = self.0.with(|database| {
            let change = database.begin_write()?;
            {
                let mut waiting = change.open_table(WAITING)?;
                let mut tries = change.open_table(TRIES)?;
                let mut dead = change.open_table(DEAD)?;
                for order in &batch {
                    apply(&order.change, &mut waiting, &mut tries, &mut dead)?;
                }
                while dead.len()? > EVENTS_DEAD_MAX {
                    let Some((id, _)) = dead.pop_first()?.map(|(id, row)| (id.value(), row.value().len()))
                    else {
                        break;
                    };
                    tries.remove(id)?;
                }
            }
            Ok(change.commit()?)
        });
        let result = result.map_err(Arc::new);
        if let Err(error) = &result {
            tracing::error!(%error, "events cannot be written");
        }
        let mut kept = Vec::new();
        for order in batch {
            match (order.done, &result) {
                // Who waits is told; one that has left hears of it by its event being there.
                (Some(done), Ok(())) => drop(done.send(Ok(()))),
                (Some(done), Err(error)) => drop(done.send(Err(Arc::clone(error)))),
                (None, Ok(())) => {}
                (None, Err(_)) => kept.push(Order { change: order.change, done: None }),
            }
        }
        kept
    }
}

/// What is written next, those that could not be written before first; and whether nothing more will come.
fn gather(inbox: &Receiver<Order>, mut batch: Vec<Order>) -> (Vec<Order>, bool) {
    let pause = if batch.is_empty() { LAZY } else { AGAIN };
    if batch.is_empty() {
        match inbox.recv() {
            Ok(order) => batch.push(order),
            Err(_) => return (batch, true),
        }
    }
    let until = Instant::now() + pause;
    let mut has_ended = false;
    while batch.last().is_some_and(|order| order.done.is_none()) && batch.len() < BATCH_MAX {
        match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(order) => batch.push(order),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                has_ended = true;
                break;
            }
        }
    }
    batch.extend(inbox.try_iter().take(BATCH_MAX.saturating_sub(batch.len())));
    (batch, has_ended)
}

type Rows<'t> = redb::Table<'t, u64, &'static [u8]>;

fn apply(
    change: &Change,
    waiting: &mut Rows<'_>,
    tries: &mut Rows<'_>,
    dead: &mut Rows<'_>,
) -> Result<(), redb::Error> {
    match change {
        Change::Add(id, event) => {
            waiting.insert(id, encode(event).as_slice())?;
        }
        Change::Tried(id, now) => {
            tries.insert(id, encode_tries(now).as_slice())?;
        }
        Change::Done(id) => {
            waiting.remove(id)?;
            tries.remove(id)?;
        }
        Change::Dead(id, now) => {
            if let Some(row) = waiting.remove(id)? {
                dead.insert(id, row.value())?;
                drop(row);
                tries.insert(id, encode_tries(now).as_slice())?;
            }
        }
        Change::Letter(id, letter, event) => {
            waiting.remove(id)?;
            tries.remove(id)?;
            waiting.insert(letter, encode(event).as_slice())?;
        }
        Change::Revive(id, next, event) => {
            dead.remove(id)?;
            tries.remove(id)?;
            waiting.insert(next, encode(event).as_slice())?;
        }
        Change::Forget(id) => {
            if dead.remove(id)?.is_some() {
                tries.remove(id)?;
            }
        }
    }
    Ok(())
}

fn tries_of(table: &impl ReadableTable<u64, &'static [u8]>, id: u64) -> Result<Tries, redb::Error> {
    let row = table.get(id)?;
    Ok(row.and_then(|row| serde_json::from_slice(row.value()).ok()).unwrap_or_default())
}

fn encode_tries(tries: &Tries) -> Vec<u8> {
    // Numbers and a text.
    serde_json::to_vec(tries).unwrap_or_default()
}

/// Length of the header, header as JSON, body.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    // Texts, bytes and a number.
    let header = serde_json::to_vec(event).unwrap_or_default();
    let mut row = Vec::with_capacity(HEADER_LEN_BYTES + header.len() + event.body.len());
    row.extend_from_slice(&u32::try_from(header.len()).unwrap_or(0).to_le_bytes());
    row.extend_from_slice(&header);
    row.extend_from_slice(&event.body);
    row
}

pub(super) fn decode(row: &[u8]) -> Option<Event> {
    let (len, rest) = row.split_first_chunk::<HEADER_LEN_BYTES>()?;
    let (header, body) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    let event: Event = serde_json::from_slice(header).ok()?;
    Some(Event { body: body.to_vec(), ..event })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &[u8]) -> Arc<Event> {
        Arc::new(Event {
            app: "a".to_owned(),
            function: "f".to_owned(),
            method: "POST".to_owned(),
            path: "/x?y=1".to_owned(),
            headers: vec![("h".to_owned(), vec![0xff, b'v'])],
            accepted_ms: 7,
            body: body.to_vec(),
        })
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.redb");
        let book = Book::open(&path).unwrap();
        let adds = (1..=40).map(|id| book.write(Change::Add(id, event(&[1; 1000]))));
        for added in futures_util::future::join_all(adds).await {
            added.unwrap();
        }
        let tries = Tries { attempts: 2, due_ms: 9, error: "no".to_owned() };
        book.write(Change::Tried(2, tries.clone())).await.unwrap();
        book.write(Change::Done(1)).await.unwrap();
        book.write(Change::Dead(3, tries.clone())).await.unwrap();
        book.write(Change::Letter(4, 50, event(b"letter"))).await.unwrap();
        assert_eq!(book.event(5).await.unwrap().unwrap(), *event(&[1; 1000]));
        drop(book);
        // The writer lets go of the file once it has nothing more to write.
        let book = loop {
            match Book::open(&path) {
                Ok(book) => break book,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let waiting = book.waiting().unwrap();
        assert_eq!(waiting.len(), 38);
        assert_eq!((&waiting[&2].tries, waiting[&50].bytes, book.last().unwrap()), (&tries, 6, 50));
        let dead = book.dead().await.unwrap();
        assert_eq!((dead.len(), dead[0].0, &dead[0].2), (1, 3, &tries));
        book.write(Change::Revive(3, 51, event(b"again"))).await.unwrap();
        assert!(book.dead().await.unwrap().is_empty());
        assert_eq!(book.waiting().unwrap()[&51].tries, Tries::default());
    }

    #[tokio::test]
    async fn those_that_came_to_nothing_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let book = Book::open(&directory.path().join("events.redb")).unwrap();
        let last = EVENTS_DEAD_MAX + 20;
        for id in 1..=last {
            book.write_lazily(Change::Add(id, event(b""))).unwrap();
            book.write_lazily(Change::Dead(id, Tries::default())).unwrap();
        }
        book.write(Change::Forget(0)).await.unwrap();
        let dead = book.dead().await.unwrap();
        assert_eq!((dead.len() as u64, dead[0].0), (EVENTS_DEAD_MAX, last));
        assert!(book.waiting().unwrap().is_empty());
    }
}
