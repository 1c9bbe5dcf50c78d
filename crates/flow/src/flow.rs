//! The data plane of a node: the apps that run, and everything that can be asked of them.

mod direct;
mod listeners;
mod versions;
mod watching;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use baton_catalog::policy::AppPolicies;
use baton_catalog::{Manifest, RouteTable, Subscription};
use baton_transfer::{Endpoint, Service, StartError};

pub use self::direct::DirectParts;
use self::direct::bytes_of;
pub use self::listeners::{ADMITTED_HEADER, Listeners};
use self::versions::{Beside, Other, Version};
use crate::app::App;
use crate::cells;
use crate::elsewhere::serve::Inbound;
use crate::error::InvokeError;
use crate::hosts::Hosts;
use crate::invoke::{Head, Upload};
use crate::lifecycle;
use crate::node::{Node, Options};
use crate::outgoing::Fetch;
use crate::scale::ScaleError;
use crate::status::{AppStatus, CapabilityRow, LogLine, PoolStatus, Receipt, ScaleStatus, Totals};
use crate::stream::Offer;
use crate::tunnels::Tunnels;
use crate::watch::Wish;

/// Where a route leads.
#[derive(Clone)]
pub struct Target {
    app: Rc<App>,
    function: usize,
    /// The other version that may answer.
    other: Option<Other>,
    /// Who gets the events that come there, where such come.
    listens: Option<Rc<[Subscription]>>,
}

impl Target {
    /// The version that takes a request, and the function in it.
    fn choose(&self, head: &Head) -> (&Rc<App>, usize) {
        match &self.other {
            Some(other) if other.split.takes(head) => (&other.split.app, other.function),
            _ => (&self.app, self.function),
        }
    }
}

/// A call from the admin API.
#[derive(Clone, Debug, Default)]
pub struct DirectCall {
    /// The method.
    pub method: String,
    /// The path, with a query if there is one.
    pub path: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a function answered to a [`DirectCall`].
#[derive(Clone, Debug)]
pub struct DirectReply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// The invocation, as receipts name it.
    pub invocation: String,
}

pub(crate) struct Inner {
    pub(crate) node: Rc<Node>,
    pub(crate) apps: RefCell<BTreeMap<String, Rc<App>>>,
    pub(crate) manifests: RefCell<BTreeMap<String, Manifest>>,
    /// Versions that have a part of the requests of the one in `apps`.
    beside: RefCell<BTreeMap<String, Beside>>,
    /// Versions that no route leads to yet.
    ready: RefCell<Vec<Version>>,
    routes: RefCell<Rc<RouteTable<Target>>>,
    next_index: Cell<usize>,
    /// Policies that were set in the place of what manifests declare, by app.
    pub(crate) set_policies: RefCell<BTreeMap<String, AppPolicies>>,
}

/// The data plane. Lives on one thread, inside a `LocalSet`; clones are the same data plane.
#[derive(Clone)]
pub struct Flow {
    pub(crate) inner: Rc<Inner>,
}

impl Flow {
    /// An empty data plane. Call inside a `LocalSet`.
    #[must_use]
    pub fn new(options: Options) -> Flow {
        let node = Node::new(options);
        let inner = Rc::new(Inner {
            node: Rc::clone(&node),
            apps: RefCell::default(),
            manifests: RefCell::default(),
            beside: RefCell::default(),
            ready: RefCell::default(),
            routes: RefCell::new(Rc::new(RouteTable::empty())),
            next_index: Cell::new(0),
            set_policies: RefCell::default(),
        });
        tokio::task::spawn_local(Rc::clone(&node).ring_bells());
        tokio::task::spawn_local(Rc::clone(&node).keep_time());
        tokio::task::spawn_local(crate::scale::run(Rc::clone(&node)));
        tokio::task::spawn_local(cells::relieve(node));
        Flow { inner }
    }

    /// The routes as they are now.
    #[must_use]
    pub fn routes(&self) -> Rc<RouteTable<Target>> {
        Rc::clone(&self.inner.routes.borrow())
    }

    /// The largest body that `target` can ever take, bytes.
    #[must_use]
    pub fn body_limit(&self, target: &Target) -> u64 {
        // What comes in parts need not be there at once.
        if self.streams(target) {
            return u64::MAX;
        }
        let own = target.app.pool.borrow().bytes();
        // Which version takes it is not known before its head is whole: that one says no if it is too small.
        target.other.as_ref().map_or(own, |other| own.max(other.split.app.pool.borrow().bytes()))
    }

    /// Whether requests and answers of `target` may be streams.
    #[must_use]
    pub fn streams(&self, target: &Target) -> bool {
        target.app.functions.get(target.function).is_some_and(|state| state.spec.stream)
            && target.app.is_here(target.function)
    }

    /// Begins an invocation: its head is in the pool, its body can be written.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`], [`InvokeError::TooLarge`], [`InvokeError::Draining`].
    pub fn begin(
        &self,
        target: &Target,
        head: &Head,
        body_len: Option<u64>,
        wish: Wish,
    ) -> Result<Upload, InvokeError> {
        let (app, function) = self.admitted(target, head)?;
        Upload::begin(app, function, head, body_len, wish)
    }

    fn admitted<'t>(&self, target: &'t Target, head: &Head) -> Result<(&'t Rc<App>, usize), InvokeError> {
        if self.inner.node.draining.get() { Err(InvokeError::Draining) } else { Ok(target.choose(head)) }
    }

    /// As [`Flow::begin`], for a client that could do with a stream: where the function can do with one too,
    /// [`Upload::feed`] and [`Reply::take_parts`](crate::Reply::take_parts) say so.
    ///
    /// # Errors
    /// As [`Flow::begin`].
    pub fn begin_streamed(
        &self,
        target: &Target,
        head: Head,
        body_len: Option<u64>,
        (offer, wish): (Offer, Wish),
    ) -> Result<Upload, InvokeError> {
        let (app, function) = self.admitted(target, &head)?;
        Upload::begin_streamed(app, function, head, body_len, (offer, wish))
    }

    /// From now on `tunnels` opens the doors of replicas whose programs connect by themselves; without it nobody accepts there.
    pub fn tunnel_by(&self, tunnels: Tunnels) {
        *self.inner.node.tunnels.borrow_mut() = Some(tunnels);
    }

    /// From now on `fetch` sends out what functions ask of the network; without it they are refused.
    pub fn fetch_by(&self, fetch: Fetch) {
        *self.inner.node.fetch.borrow_mut() = Some(fetch);
    }

    /// From now on this is what other nodes host.
    pub fn set_hosts(&self, hosts: Hosts) {
        if let Some(endpoint) = self.inner.node.endpoint.borrow().as_ref() {
            endpoint.set_peers(&hosts.as_peers());
        }
        *self.inner.node.hosts.borrow_mut() = Rc::new(hosts);
    }

    /// What other nodes host, as far as is known here.
    #[must_use]
    pub fn hosts(&self) -> Rc<Hosts> {
        Rc::clone(&self.inner.node.hosts.borrow())
    }

    /// Joins a cluster: from now on calls go to other nodes, and theirs come here.
    ///
    /// # Errors
    /// The address cannot be listened on, or the certificates are of no use.
    pub async fn join(&self, settings: baton_transfer::Settings) -> Result<Endpoint, StartError> {
        let name: Rc<str> = Rc::from(settings.node.as_str());
        let inbound = Rc::new(Inbound { flow: self.clone(), endpoint: RefCell::new(None) });
        let endpoint = Endpoint::start(settings, Rc::clone(&inbound) as Rc<dyn Service>).await?;
        *inbound.endpoint.borrow_mut() = Some(endpoint.clone());
        *self.inner.node.name.borrow_mut() = name;
        endpoint.set_peers(&self.inner.node.hosts.borrow().as_peers());
        *self.inner.node.endpoint.borrow_mut() = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// An app that runs.
    pub(crate) fn app(&self, name: &str) -> Option<Rc<App>> {
        self.inner.apps.borrow().get(name).cloned()
    }

    // ---- apps -----------------------------------------------------------------------------------------------

    /// Ends the cells of an app that have nothing to do, and waits for their ends. Gives how many have ended; `None` if
    /// there is no such app.
    pub async fn evict(&self, app: &str) -> Option<u32> {
        let app = self.inner.apps.borrow().get(app).cloned()?;
        Some(cells::evict(&app).await)
    }

    /// Sets how many replicas of a function there are at least and at most; what is not given stays. Lasts until the app is
    /// deployed again, or the node ends.
    ///
    /// # Errors
    /// [`ScaleError`]; nothing has changed then.
    pub fn scale(
        &self,
        app: &str,
        function: &str,
        min: Option<u32>,
        max: Option<u32>,
    ) -> Result<ScaleStatus, ScaleError> {
        let app = self.inner.apps.borrow().get(app).cloned().ok_or(ScaleError::Unknown)?;
        crate::scale::set(&app, function, (min, max))
    }

    /// Calls a function from the admin API.
    ///
    /// # Errors
    /// Every [`InvokeError`].
    pub async fn invoke(
        &self,
        app: &str,
        function: &str,
        call: DirectCall,
    ) -> Result<DirectReply, InvokeError> {
        let target = self.direct_target(app, function)?;
        let (head, wish) = self.direct_head(&call)?;
        let body_len = Some(call.body.len() as u64);
        let mut upload = if call.headers.iter().any(|(name, _)| name == ADMITTED_HEADER) {
            self.begin_admitted(&target, &head, body_len, wish)?
        } else {
            self.begin(&target, &head, body_len, wish)?
        };
        upload.write(&call.body)?;
        let reply = upload.finish().await?;
        let invocation = crate::receipts::name(reply.invocation());
        let headers = reply.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        Ok(DirectReply { status: reply.status(), headers, body: bytes_of(reply), invocation })
    }

    // ---- what there is to know ------------------------------------------------------------------------------

    /// Has the cells of an app, or of all, say who holds what, so that the next look finds it. Waits for them a little: one
    /// that is deep in its work answers within a tick of its own.
    pub async fn have_cells_show(&self, app: Option<&str>) {
        let replicas: Vec<_> = {
            let wanted = self.all().into_iter().filter(|found| app.is_none_or(|app| app == found.name));
            wanted.flat_map(|app| app.replicas()).collect()
        };
        crate::inspect::have_cells_show(&replicas).await;
    }

    /// What runs: the leading versions, then those beside them that have a part of the requests. One is looked at at a time, and
    /// requests go on in between.
    pub async fn load(&self) -> Vec<AppStatus> {
        let mut apps: Vec<Rc<App>> = self.inner.apps.borrow().values().cloned().collect();
        apps.extend(self.inner.beside.borrow().values().map(|beside| Rc::clone(&beside.version.app)));
        let mut found = Vec::with_capacity(apps.len());
        for app in apps {
            found.push(crate::inspect::app(&app));
            tokio::task::yield_now().await;
        }
        found
    }

    /// What runs beside the leading versions, and has a part of their requests.
    #[must_use]
    pub fn status_beside(&self) -> Vec<AppStatus> {
        self.inner.beside.borrow().values().map(|beside| crate::inspect::app(&beside.version.app)).collect()
    }

    /// What runs: of each app the leading version.
    #[must_use]
    pub fn status(&self) -> Vec<AppStatus> {
        self.inner.apps.borrow().values().map(|app| crate::inspect::app(app)).collect()
    }

    /// Counters since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let in_flight = self.all().iter().map(|app| u64::from(app.in_flight())).sum();
        Totals { in_flight, ..self.inner.node.totals.borrow().clone() }
    }

    /// An app's pool.
    #[must_use]
    pub fn pool(&self, app: &str) -> Option<PoolStatus> {
        self.inner.apps.borrow().get(app).map(|app| crate::inspect::pool(app))
    }

    /// Who can access which range of which buffer now, of one app or of all.
    #[must_use]
    pub fn capabilities(&self, app: Option<&str>) -> Vec<CapabilityRow> {
        let wanted = self.all().into_iter().filter(|found| app.is_none_or(|app| app == found.name));
        wanted.flat_map(|app| crate::inspect::capabilities(&app)).collect()
    }

    /// The receipt of one invocation, by its name or as `last`.
    #[must_use]
    pub fn receipt(&self, invocation: &str) -> Option<Receipt> {
        self.inner.node.receipts.borrow().get(invocation)
    }

    /// The receipts that are kept, newest first.
    #[must_use]
    pub fn receipts(&self) -> Vec<Receipt> {
        self.inner.node.receipts.borrow().all()
    }

    /// Log lines behind `number`, oldest first.
    #[must_use]
    pub fn logs_after(&self, number: u64, app: Option<&str>, function: Option<&str>) -> Vec<LogLine> {
        self.inner.node.logs.borrow().after(number, app, function)
    }

    // ---- the end --------------------------------------------------------------------------------------------

    /// Takes no new invocations from here on.
    pub fn begin_drain(&self) {
        self.inner.node.draining.set(true);
    }

    /// Waits until nothing is in flight.
    pub async fn drained(&self) {
        while self.totals().in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends all replicas and waits for their ends.
    pub async fn stop(&self) {
        self.begin_drain();
        // It may know of this data plane.
        *self.inner.node.fetch.borrow_mut() = None;
        *self.inner.node.tunnels.borrow_mut() = None;
        let apps = self.all();
        for app in &apps {
            app.stopping.set(true);
        }
        let stops = apps.iter().map(|app| {
            let app = Rc::clone(app);
            tokio::task::spawn_local(async move { lifecycle::stop(&app, Duration::from_millis(200)).await })
        });
        for stop in stops.collect::<Vec<_>>() {
            // A stop that panicked has left its replicas to the end of the process, which ends them too.
            let _ = stop.await;
        }
    }
}

/// Starts what keeps an app's replicas, templates and cells alive.
fn raise(app: &Rc<App>) {
    for group in &app.groups {
        tokio::task::spawn_local(cells::keep_template(Rc::clone(app), Rc::clone(group)));
    }
    for (number, _) in app.functions.iter().enumerate().filter(|(_, state)| state.nursery.is_some()) {
        tokio::task::spawn_local(crate::zygote::keep(Rc::clone(app), number));
    }
    for unit in &app.units {
        crate::scale::begin(app, unit);
    }
}
