//! What a member does all the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::bus::{Bucket, key_of};
use super::cores::Cores;
use super::error::ClusterError;
use super::members::{AppRow, BesideRow, Load, News, Row, hosts};
use super::plan::Seat;
use super::{APP, Cluster, ClusterOptions, DRAIN, Wanted, secrets};
use crate::artifacts::Artifacts;
use crate::deploy::{Deployer, Placed};
use crate::limits::{
    BUS_ARTIFACT_KEPT, BUS_SWEEP_EVERY, FIGURES_WITHIN, MOVES_AFTER, ROW_EVERY, ROW_LOOK, START_AGAIN,
    WANTED_AGAIN, WANTED_EVERY,
};
use crate::plane::Plane;

impl Cluster {
    /// Begins to be seen, to see, and to know what is wanted.
    pub(super) fn spawn_membership(self: &Arc<Self>, deployer: &Arc<Deployer>, plane: &Arc<dyn Plane>) {
        tokio::spawn(Arc::clone(self).pulse(Arc::clone(deployer), Arc::clone(plane)));
        tokio::spawn(Arc::clone(self).listen());
        tokio::spawn(Arc::clone(self).tell(Arc::clone(plane)));
        tokio::spawn(Arc::clone(self).follow(Arc::clone(deployer.artifacts())));
        tokio::spawn(Arc::clone(self).tidy());
    }

    /// Begins to make it so.
    pub(super) fn spawn_execution(self: &Arc<Self>, deployer: &Arc<Deployer>) {
        tokio::spawn(Arc::clone(self).execute(Arc::clone(deployer)));
    }

    // ---- this node's row ------------------------------------------------------------------------------------

    /// The row of a node that has nothing yet.
    pub(super) fn bare_row(&self) -> Row {
        let ClusterOptions { node, incarnation, transfer, gateway, version, cores, memory, .. } =
            &self.options;
        Row {
            name: node.clone(),
            incarnation: *incarnation,
            transfer: *transfer,
            gateway: *gateway,
            version: (*version).to_owned(),
            cores: *cores,
            memory: *memory,
            cpu: 0,
            draining: self.leaving.load(Ordering::Relaxed) || self.wanted.borrow().drains.contains(node),
            since_ms: self.since_ms,
            apps: BTreeMap::new(),
        }
    }

    async fn pulse(self: Arc<Self>, deployer: Arc<Deployer>, plane: Arc<dyn Plane>) {
        let mut beat = interval(ROW_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wanted = self.wanted.subscribe();
        let mut figures = BTreeMap::new();
        let mut cores = Cores::default();
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.nudge.notified() => {}
                _ = wanted.changed() => {}
            }
            let leaving = self.leaving.load(Ordering::Relaxed);
            if !*self.claimed.borrow() {
                if leaving {
                    return;
                }
                self.try_to_claim().await;
                continue;
            }
            // A data plane that is slow for once says next second what it has to say.
            if let Ok(Ok(now)) = timeout(FIGURES_WITHIN, plane.load()).await {
                figures = loads(now);
            }
            let row = Row { apps: parts(&deployer, &figures), cpu: cores.look(), ..self.bare_row() };
            let Ok(bytes) = serde_json::to_vec(&row) else { continue };
            let cluster = Arc::clone(&self);
            // Not waited for: others hear the row at once, and the next must not come late because the store answers slowly.
            tokio::spawn(async move {
                match cluster.bus.put_member(&cluster.options.node, Bytes::from(bytes)).await {
                    Ok(()) => cluster.untroubled(),
                    Err(error) => cluster.troubled(&error),
                }
            });
        }
    }

    /// After a start without the store.
    async fn try_to_claim(&self) {
        if self.bus.is_connected()
            && let Err(error) = self.claim().await
        {
            self.troubled(&error);
        }
    }

    // ---- everybody's rows -----------------------------------------------------------------------------------

    /// Hears rows. The subscription outlives connections; it ends with the client only.
    async fn listen(self: Arc<Self>) {
        let mut rows = loop {
            match self.bus.hear(Bucket::Members).await {
                Ok(rows) => break rows,
                Err(error) => {
                    self.troubled(&error);
                    sleep(WANTED_AGAIN).await;
                }
            }
        };
        let mut look = interval(ROW_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_figures = false;
        loop {
            tokio::select! {
                message = rows.next() => {
                    let Some(message) = message else { return };
                    match self.hear(&message) {
                        Some(true) => self.publish_table(),
                        Some(false) => has_figures = true,
                        None => {}
                    }
                }
                _ = look.tick() => {
                    let someone_is_out = self.members().look(self.now());
                    if someone_is_out || std::mem::take(&mut has_figures) {
                        self.publish_table();
                    }
                }
            }
        }
    }

    /// Takes a row; says whether it is news of who is there, and `None` if it is nothing.
    fn hear(&self, message: &async_nats::Message) -> Option<bool> {
        let (key, is_farewell) = key_of(message)?;
        if is_farewell {
            return self.members().left(key).then_some(true);
        }
        let row = match serde_json::from_slice::<Row>(&message.payload) {
            Ok(row) if row.name == key => row,
            _ => {
                tracing::warn!(node = key, "a row among the members is not one that this version writes");
                return None;
            }
        };
        let gateway = row.gateway;
        match self.members().heard(row, self.now()) {
            News::Members => Some(true),
            News::Figures => Some(false),
            News::Namesake => {
                let (node, gateway) = (self.options.node.clone(), gateway.to_string());
                self.troubled(&ClusterError::NameTaken { node, gateway });
                None
            }
        }
    }

    pub(super) fn publish_table(&self) {
        let rows: Vec<Row> = self.members().rows().cloned().collect();
        self.table.send_replace(Arc::new(rows));
    }

    /// Keeps the data plane told.
    async fn tell(self: Arc<Self>, plane: Arc<dyn Plane>) {
        let mut table = self.table.subscribe();
        loop {
            let rows = Arc::clone(&table.borrow_and_update());
            if plane.set_hosts(hosts(&self.options.node, rows.iter())).await.is_err() {
                return;
            }
            if table.changed().await.is_err() {
                return;
            }
        }
    }

    // ---- what is wanted -------------------------------------------------------------------------------------

    /// Reads what is wanted whenever it is said to have changed, at each new connection, and every now and then.
    async fn follow(self: Arc<Self>, artifacts: Arc<Artifacts>) {
        let mut connections = self.bus.connections();
        let mut changes = None;
        let mut known = self.wanted.borrow().known;
        loop {
            if changes.is_none() {
                changes = self.bus.hear(Bucket::Wanted).await.ok();
            }
            let wait = match self.read_wanted(&mut known, &artifacts).await {
                Ok(()) => WANTED_EVERY,
                Err(error) => {
                    self.troubled(&error);
                    WANTED_AGAIN
                }
            };
            let change = async {
                match &mut changes {
                    Some(changes) => changes.next().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                goes_on = change => if !goes_on { changes = None },
                _ = connections.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn read_wanted(
        &self,
        known: &mut Option<(i128, u64)>,
        artifacts: &Arc<Artifacts>,
    ) -> Result<(), ClusterError> {
        let store = self.bus.buckets().await?.wanted;
        let Some(contents) = self.bus.contents(&store, *known).await? else { return Ok(()) };
        let mut now = Wanted::read(&contents);
        let before = self.wanted.borrow().clone();
        let was_lost = before.known.is_some_and(|(bucket, _)| bucket != contents.bucket);
        if was_lost {
            // The servers lost their disk, not this node what it knows: nobody asked for anything to end.
            tracing::error!("the cluster's store was emptied: what it held is brought back from here");
            self.bring_back(&before, &now, artifacts).await?;
            let again = self.bus.contents(&store, None).await?;
            now = Wanted::read(&again.unwrap_or_default());
        }
        *known = now.known;
        self.wanted.send_if_modified(|wanted| {
            let is_older = !was_lost && wanted.known > now.known;
            if !is_older {
                *wanted = now;
            }
            !is_older
        });
        Ok(())
    }

    /// Fills a store that was lost from what this node knows. Others do the same; whoever is first is right.
    async fn bring_back(
        &self,
        before: &Wanted,
        now: &Wanted,
        artifacts: &Arc<Artifacts>,
    ) -> Result<(), ClusterError> {
        let store = self.bus.buckets().await?.wanted;
        let first = |written| match written {
            Ok(_) | Err(ClusterError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        for (app, deployment) in before.apps.iter().filter(|(app, _)| !now.apps.contains_key(*app)) {
            for hash in deployment.named() {
                let artifacts = Arc::clone(artifacts);
                let path = tokio::task::spawn_blocking(move || artifacts.verified(&hash)).await;
                // An artifact that is not here is another node's to bring.
                if let Ok(Ok(path)) = path {
                    self.upload(&hash, &path).await?;
                }
            }
            let row = serde_json::to_vec(deployment).map_err(ClusterError::Encode)?;
            first(self.bus.write(&store, &format!("{APP}{app}"), Some(Bytes::from(row)), 0).await)?;
        }
        for (place, row) in before.secrets.iter().filter(|(place, _)| !now.secrets.contains_key(*place)) {
            let row = serde_json::to_vec(row).map_err(ClusterError::Encode)?;
            first(self.bus.write(&store, &secrets::key_of(place), Some(Bytes::from(row)), 0).await)?;
        }
        for node in before.drains.difference(&now.drains) {
            let mark = Some(Bytes::from_static(b"{}"));
            first(self.bus.write(&store, &format!("{DRAIN}{node}"), mark, 0).await)?;
        }
        Ok(())
    }

    /// Sweeps the store every now and then. One node is enough for that: the first by name.
    async fn tidy(self: Arc<Self>) {
        loop {
            sleep(BUS_SWEEP_EVERY).await;
            if self.rows().first().is_none_or(|row| row.name != self.options.node) {
                continue;
            }
            match self.sweep_store(BUS_ARTIFACT_KEPT).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(count, "artifacts that no version names are gone from the cluster's store")
                }
                Err(error) => tracing::warn!(%error, "the cluster's store is not swept"),
            }
        }
    }

    /// Makes it so, whenever what is wanted or who is there has changed, and again while something fails.
    async fn execute(self: Arc<Self>, deployer: Arc<Deployer>) {
        let (mut wanted, mut table) = (self.wanted.subscribe(), self.table.subscribe());
        let mut seats: Vec<Seat> = Vec::new();
        let (mut delay, mut again) = (START_AGAIN.0, None);
        // What the node did while it came in is looked at once more.
        wanted.mark_changed();
        loop {
            let retry = async {
                match again {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let is_new = tokio::select! {
                changed = wanted.changed() => changed.is_ok(),
                changed = table.changed() => changed.is_ok() && self.seats() != seats,
                () = retry => false,
            };
            let is_due = again.is_some_and(|at| Instant::now() >= at);
            if !is_new && !is_due {
                continue;
            }
            if self.leaving.load(Ordering::Relaxed) {
                return;
            }
            if is_new && self.seats() != seats {
                // Nodes come and go in company, as when a rack loses power.
                sleep(MOVES_AFTER).await;
            }
            seats = self.seats();
            let done = deployer.reconcile(&self).await;
            for failed in done.iter().filter_map(|done| Some((&done.app, done.result.as_ref().err()?))) {
                tracing::warn!(app = %failed.0, "cannot be run here: {}", failed.1);
            }
            let has_failed = done.iter().any(|done| done.result.is_err());
            delay = if is_new { START_AGAIN.0 } else { next_delay(delay) };
            again = has_failed.then(|| Instant::now() + delay);
            self.nudge.notify_one();
        }
    }
}

fn next_delay(delay: Duration) -> Duration {
    (delay * 2).min(START_AGAIN.1)
}

type Figures = BTreeMap<(String, u64), BTreeMap<String, Load>>;

/// What the data plane tells, as rows have it.
fn loads(status: Vec<baton_flow::status::AppStatus>) -> Figures {
    let load = |function: baton_flow::status::FunctionStatus| {
        let ready = function.replicas.iter().filter(|replica| replica.state == "ready").count();
        let load = Load {
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            in_flight: function.replicas.iter().map(|replica| replica.in_flight).sum(),
            queued: function.queued,
        };
        (function.function, load)
    };
    let app = |status: baton_flow::status::AppStatus| {
        ((status.app, status.version), status.functions.into_iter().map(load).collect())
    };
    status.into_iter().map(app).collect()
}

/// What this node has of each app: what runs, and what does not.
fn parts(deployer: &Deployer, figures: &Figures) -> BTreeMap<String, AppRow> {
    let mut parts: BTreeMap<String, AppRow> = BTreeMap::new();
    for (app, placed) in deployer.placed() {
        let hosted = |part: &Placed| {
            let loads = figures.get(&(app.to_string(), part.deployment.version));
            let load = |name: &str| loads.and_then(|loads| loads.get(name)).copied().unwrap_or_default();
            part.hosted().map(|name| (name.to_string(), load(name.as_str()))).collect()
        };
        let beside = placed
            .parts()
            .get(1)
            .map(|part| BesideRow { version: part.deployment.version, functions: hosted(part) });
        let version = Some(placed.deployment.version);
        parts.insert(app.to_string(), AppRow { version, error: None, functions: hosted(&placed), beside });
    }
    for failed in deployer.failed() {
        parts.entry(failed.app).or_default().error = Some(failed.error);
    }
    parts
}
