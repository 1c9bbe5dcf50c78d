//! Events of a cluster: they lie in its store, and every node does of them what it can.
//!
//! ```text
//!   accept ──▶ the store ──▶ whichever node asks next ──▶ Plane::invoke ──▶ judge ─▶ done: acknowledged
//!                  ▲                                                          ├──▶ again: put off
//!                  └── given to another node once that one says nothing ◀─────┴──▶ dead letter, or kept to be looked at
//! ```
//!
//! How often an event was tried is how often the store gave it to somebody. So a node that dies in the middle costs an attempt, and
//! what could not begin is held by its node until it can, or is too old.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::Message;
use baton_catalog::Events as Settings;
use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::book::{Event, decode, encode};
use super::retry::{Came, Fate, Tries, judge};
use super::run::{letter_of, share_of};
use super::{DeadReport, EventFault, Events, QueueReport, name, now_ms};
use crate::cluster::queue::{Dead, Lane, Pull, Queue, identity, put_off, say_at_work, settle};
use crate::cluster::{Cluster, ClusterError};
use crate::limits::{EVENT_WRITE_AGAIN, EVENTS_AT_ONCE_MAX, EVENTS_BYTES_MAX};

/// Between two looks at what waits in the store.
const LOOK: Duration = Duration::from_secs(1);
/// How old what is known of a queue may be when an event is taken.
const FRESH: Duration = Duration::from_millis(250);
/// Between two tries to ask while the store does not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Functions whose oldest event is looked for in one look.
const OLDEST_MAX: usize = 32;
/// How long an event is left alone that this program cannot read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);
/// How long one waits that a leaving node gives back.
const GIVEN_BACK_PAUSE: Duration = Duration::from_millis(200);
/// Times that the store is told that an event is done.
const SETTLE_TRIES: u32 = 3;

/// What is known of a function's events.
#[derive(Debug, Default)]
struct Tally {
    /// How many are not done in the whole cluster, as far as is known here.
    waiting: u64,
    /// How many of those are on their way to the store.
    coming: u64,
    /// When that was asked last.
    seen: Option<Instant>,
    oldest_ms: Option<u64>,
    /// Being tried here.
    running: u32,
    done: u64,
    retried: u64,
    dead: u64,
    /// Whether this node asks for the next.
    is_asked: bool,
}

#[derive(Debug, Default)]
struct State {
    tallies: BTreeMap<Lane, Tally>,
    /// Bytes of all that wait.
    bytes: u64,
}

/// Why an event is not in the store.
#[derive(Debug)]
pub(super) enum Turned {
    /// It is not taken at all.
    Away(EventFault),
    /// The store cannot take it.
    Back(ClusterError),
}

/// This node's part in the events of its cluster.
pub(super) struct Shared {
    queue: Queue,
    state: Mutex<State>,
    /// Told when a function has events that this node does not ask for yet.
    stirred: Notify,
    at_once: Semaphore,
}

impl Shared {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            queue: Queue::new(cluster),
            state: Mutex::default(),
            stirred: Notify::new(),
            at_once: Semaphore::new(EVENTS_AT_ONCE_MAX),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally<R>(&self, lane: &Lane, change: impl FnOnce(&mut Tally) -> R) -> R {
        change(self.state().tallies.entry(lane.clone()).or_default())
    }

    /// A number that no other event has: those on a node's own disk begin with 0.
    pub(super) fn number() -> u64 {
        let mut random = [0; 8];
        // The kernel has some once it has started.
        let _ = SystemRandom::new().fill(&mut random);
        numbered(random)
    }

    /// Takes an event into the store.
    pub(super) async fn accept(&self, id: u64, event: &Event, queue: u32) -> Result<(), Turned> {
        let lane = (event.app.clone(), event.function.clone());
        self.admit(&lane, event.body.len(), queue).await?;
        let put = self.queue.put(&lane, &name(id), Bytes::from(encode(event))).await;
        self.tally(&lane, |tally| {
            tally.coming = tally.coming.saturating_sub(1);
            if put.is_err() {
                tally.waiting = tally.waiting.saturating_sub(1);
            }
        });
        self.stirred.notify_one();
        put.map_err(Turned::Back)
    }

    /// Sees that there is room for one more. What other nodes take at this very moment is not seen.
    async fn admit(&self, lane: &Lane, bytes: usize, queue: u32) -> Result<(), Turned> {
        let has_room = |tally: &Tally| tally.waiting < u64::from(queue);
        let is_known = self
            .tally(lane, |tally| has_room(tally) && tally.seen.is_some_and(|seen| seen.elapsed() < FRESH));
        if !is_known {
            self.ask(Some(lane)).await.map_err(Turned::Back)?;
        }
        if self.state().bytes.saturating_add(bytes as u64) > EVENTS_BYTES_MAX {
            return Err(Turned::Away(EventFault::NoRoom));
        }
        self.tally(lane, |tally| {
            if !has_room(tally) {
                return Err(Turned::Away(EventFault::QueueFull { queue }));
            }
            tally.waiting += 1;
            tally.coming += 1;
            Ok(())
        })
    }

    /// Finds out what waits, of all functions or of one.
    async fn ask(&self, of: Option<&Lane>) -> Result<(), ClusterError> {
        let waiting = self.queue.waiting(of).await?;
        let now = Instant::now();
        let mut state = self.state();
        state.bytes = waiting.bytes;
        for lane in waiting.lanes.keys().chain(of) {
            state.tallies.entry(lane.clone()).or_default();
        }
        for (lane, tally) in &mut state.tallies {
            if of.is_none_or(|of| of == lane) {
                tally.seen = Some(now);
                tally.waiting = waiting.lanes.get(lane).copied().unwrap_or(0) + tally.coming;
            }
        }
        Ok(())
    }

    /// Looks at what waits, and how old it is.
    async fn look(&self) -> Result<(), ClusterError> {
        self.ask(None).await?;
        let lanes: Vec<Lane> = {
            let mut state = self.state();
            state
                .tallies
                .values_mut()
                .filter(|tally| tally.waiting == 0)
                .for_each(|tally| tally.oldest_ms = None);
            let waiting = state.tallies.iter().filter(|(_, tally)| tally.waiting > 0);
            waiting.map(|(lane, _)| lane.clone()).take(OLDEST_MAX).collect()
        };
        for lane in lanes {
            let oldest_ms = self.queue.oldest_ms(&lane).await?;
            self.tally(&lane, |tally| tally.oldest_ms = oldest_ms);
        }
        Ok(())
    }

    /// Functions that have events for which this node does not ask; it does from here on.
    fn unasked(&self) -> Vec<Lane> {
        if self.queue.is_leaving() {
            return Vec::new();
        }
        let mut state = self.state();
        let unasked = state.tallies.iter_mut().filter(|(_, tally)| tally.waiting > 0 && !tally.is_asked);
        unasked
            .map(|(lane, tally)| {
                tally.is_asked = true;
                lane.clone()
            })
            .collect()
    }

    /// Adds what waits in the cluster, and what this node did of it, to what is known of its own disk.
    pub(super) fn report(&self, mut reports: Vec<QueueReport>) -> Vec<QueueReport> {
        let now_ms = now_ms();
        for ((app, function), tally) in &self.state().tallies {
            let waiting = u32::try_from(tally.waiting).unwrap_or(u32::MAX);
            let oldest_s = tally.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest) / 1000);
            let known = reports.iter_mut().find(|own| own.app == *app && own.function == *function);
            if let Some(own) = known {
                own.waiting = own.waiting.saturating_add(waiting);
                own.running += tally.running;
                own.done += tally.done;
                own.retried += tally.retried;
                own.dead += tally.dead;
                own.oldest_s = own.oldest_s.max(oldest_s);
                continue;
            }
            let &Tally { running, done, retried, dead, .. } = tally;
            let (app, function) = (app.clone(), function.clone());
            reports.push(QueueReport { app, function, waiting, running, done, retried, dead, oldest_s });
        }
        reports.sort_by(|one, other| (&one.app, &one.function).cmp(&(&other.app, &other.function)));
        reports
    }

    // ---- those that came to nothing -------------------------------------------------------------------------

    pub(super) async fn dead(&self) -> Result<Vec<DeadReport>, ClusterError> {
        let dead = self.queue.dead().await?;
        Ok(dead.iter().filter_map(|about| serde_json::from_str(about).ok()).collect())
    }

    pub(super) async fn dead_one(&self, event: &str) -> Result<Option<(Dead, Event)>, ClusterError> {
        let found = self.queue.dead_one(event).await?;
        Ok(found.and_then(|dead| decode(&dead.row).map(|event| (dead, event))))
    }

    pub(super) async fn forget(&self, dead: &Dead) -> Result<(), ClusterError> {
        self.queue.forget(dead).await
    }

    /// Puts an event away that has come to nothing: with its function of last resort, or where people look.
    async fn bury(&self, id: u64, event: &Event, letter: Option<&str>, tries: &Tries, row: &Bytes) {
        if let Some(to) = letter {
            let lane = (event.app.clone(), to.to_owned());
            let letter = Bytes::from(encode(&letter_of(id, event, to, tries)));
            // Of the same name if it has to be done twice, so that the store takes it once.
            let letter_name = name(derived(&[b"letter", &id.to_le_bytes()]));
            loop {
                match self.queue.put(&lane, &letter_name, letter.clone()).await {
                    Ok(()) => {
                        self.tally(&lane, |tally| tally.waiting += 1);
                        return self.stirred.notify_one();
                    }
                    // It is a little longer than the event, and kept as the event then.
                    Err(ClusterError::TooLarge { .. }) => break,
                    Err(_) => sleep(EVENT_WRITE_AGAIN).await,
                }
            }
        }
        let about = DeadReport {
            event: name(id),
            app: event.app.clone(),
            function: event.function.clone(),
            accepted_ms: event.accepted_ms,
            attempts: tries.attempts,
            error: tries.error.chars().take(512).collect(),
        };
        // Texts and numbers.
        let about = serde_json::to_string(&about).unwrap_or_default();
        while self.queue.bury(&name(id), &about, row.clone()).await.is_err() {
            sleep(EVENT_WRITE_AGAIN).await;
        }
    }
}

/// A number of an event in a cluster's store.
fn numbered(bytes: [u8; 8]) -> u64 {
    u64::from_le_bytes(bytes) | 1 << 63
}

/// A number that follows from something, so that whoever reckons it comes to the same.
pub(super) fn derived(from: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in from {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    numbered(hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default())
}

impl Events {
    /// Does of the cluster's events what this node can, until the future is dropped.
    pub(super) async fn keep_shared(self: Arc<Self>) {
        let Some(shared) = &self.shared else { return };
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // While the store does not answer, what is known stays.
                _ = look.tick() => { let _ = shared.look().await; }
                () = shared.stirred.notified() => {}
            }
            for lane in shared.unasked() {
                tokio::spawn(Arc::clone(&self).ask_for(lane));
            }
        }
    }

    /// Asks for a function's events and tries them, until there are none.
    async fn ask_for(self: Arc<Self>, lane: Lane) {
        let Some(shared) = &self.shared else { return };
        let mut tries = JoinSet::new();
        let mut consumer = None;
        loop {
            match self.ask_once(shared, &lane, &mut consumer, &mut tries).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(app = lane.0, function = lane.1, %error, "no events from the store");
                    consumer = None;
                    sleep(ASK_AGAIN).await;
                }
            }
        }
        tries.detach_all();
        shared.tally(&lane, |tally| tally.is_asked = false);
    }

    /// Asks once; says whether to go on.
    async fn ask_once(
        self: &Arc<Self>,
        shared: &Shared,
        lane: &Lane,
        consumer: &mut Option<Pull>,
        tries: &mut JoinSet<()>,
    ) -> Result<bool, ClusterError> {
        if shared.queue.is_leaving() {
            return Ok(false);
        }
        let consumer = match consumer {
            Some(consumer) => consumer,
            None => consumer.insert(shared.queue.consumer(lane).await?),
        };
        // Of what is not deployed one at a time is looked at.
        let most = self.settings(&lane.0, &lane.1).map_or(1, |settings| settings.concurrency) as usize;
        while tries.len() >= most {
            tries.join_next().await;
        }
        while tries.try_join_next().is_some() {}
        let free = most - tries.len();
        let mut came = 0;
        let each = |message| {
            came += 1;
            let (events, lane) = (Arc::clone(self), lane.clone());
            tries.spawn(async move { events.attempt_shared(&lane, &message).await });
        };
        shared.queue.next(consumer, free, each).await?;
        Ok(came > 0 || !tries.is_empty() || shared.tally(lane, |tally| tally.waiting > 0))
    }

    async fn attempt_shared(&self, lane: &Lane, message: &Message) {
        let Some(shared) = &self.shared else { return };
        let read = identity(message).and_then(|identity| Some((identity, decode(&message.payload)?)));
        let Some(((id, given), event)) = read else {
            tracing::error!(
                app = lane.0,
                function = lane.1,
                "an event in the store cannot be read; it stays where it is"
            );
            return put_off(message, UNREADABLE_PAUSE).await;
        };
        shared.tally(lane, |tally| tally.running += 1);
        let before = Tries { attempts: given.saturating_sub(1), ..Tries::default() };
        tokio::select! {
            () = self.try_shared(shared, (id, &event, &before), lane, message) => {}
            () = say_at_work(message) => {}
        }
        shared.tally(lane, |tally| tally.running = tally.running.saturating_sub(1));
    }

    /// Tries an event until something has become of it.
    async fn try_shared(
        &self,
        shared: &Shared,
        (id, event, before): (u64, &Event, &Tries),
        lane: &Lane,
        message: &Message,
    ) {
        loop {
            let settings = self.settings(&lane.0, &lane.1);
            let came = match &settings {
                Some(_) => {
                    // Closed by nobody.
                    let _turn = shared.at_once.acquire().await;
                    self.call(id, event, before).await
                }
                None => Came::NotBegun(format!("no function {}/{} is deployed", lane.0, lane.1)),
            };
            let settings = settings.unwrap_or_default();
            let at = (now_ms(), share_of(id, before.attempts));
            match judge(&settings, event.accepted_ms, before, &came, at) {
                Fate::Done => {
                    settle_for_good(message).await;
                    return shared.tally(lane, |tally| {
                        tally.done += 1;
                        tally.waiting = tally.waiting.saturating_sub(1);
                    });
                }
                Fate::Again(tries) => {
                    let pause = Duration::from_millis(tries.due_ms.saturating_sub(now_ms()));
                    let has_begun = tries.attempts > before.attempts;
                    if has_begun || shared.queue.is_leaving() {
                        put_off(message, if has_begun { pause } else { GIVEN_BACK_PAUSE }).await;
                        return shared.tally(lane, |tally| tally.retried += 1);
                    }
                    sleep(pause).await;
                }
                Fate::Dead(tries) => {
                    return self.end_shared(shared, (id, event, &tries), &settings, lane, message).await;
                }
            }
        }
    }

    async fn end_shared(
        &self,
        shared: &Shared,
        (id, event, tries): (u64, &Event, &Tries),
        settings: &Settings,
        lane: &Lane,
        message: &Message,
    ) {
        super::run::tell_of_end(id, &lane.0, &lane.1, tries);
        let letter = settings.dead_letter.as_ref().map(|function| function.as_str());
        shared.bury(id, event, letter, tries, &message.payload).await;
        settle_for_good(message).await;
        shared.tally(lane, |tally| {
            tally.dead += 1;
            tally.waiting = tally.waiting.saturating_sub(1);
        });
    }
}

/// Tells the store that an event is done with. What it does not hear of is given to somebody again.
async fn settle_for_good(message: &Message) {
    for _ in 0..SETTLE_TRIES {
        if settle(message).await {
            return;
        }
        sleep(EVENT_WRITE_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_store_are_none_of_a_nodes_own() {
        assert!(Shared::number() >> 63 == 1 && derived(&[b"x"]) >> 63 == 1);
        assert_eq!(derived(&[b"a", b"bc"]), derived(&[b"a", b"bc"]));
        assert_ne!(derived(&[b"a", b"bc"]), derived(&[b"ab", b"c"]));
        // What a node gives out itself is the clock in microseconds.
        assert_eq!(now_ms().saturating_mul(1000) >> 63, 0);
    }
}
