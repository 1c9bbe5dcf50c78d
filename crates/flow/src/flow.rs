//! The data plane of a node: the apps that run, and everything that can be asked of them.

mod watching;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use baton_catalog::{Function, Manifest, RouteTable, Trust};
use baton_pool::pool::Pool;
use baton_transfer::{Endpoint, Service, StartError};
use bytes::Buf;

use crate::app::{App, Parts};
use crate::cells::{self, Group};
use crate::deploy::{AppSpec, Deployed, wait_until_ready};
use crate::elsewhere::serve::Inbound;
use crate::error::{DeployError, InvokeError};
use crate::hosting::{self, Hosting};
use crate::hosts::Hosts;
use crate::invoke::{Head, Upload};
use crate::lifecycle;
use crate::node::{Node, Options};
use crate::outgoing::Fetch;
use crate::status::{AppStatus, CapabilityRow, LogLine, PoolStatus, Receipt, Totals};
use crate::watch::Wish;

/// How long the old version may take to finish what it has.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Where a route leads.
#[derive(Clone)]
pub struct Target {
    app: Rc<App>,
    function: usize,
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

struct Inner {
    node: Rc<Node>,
    apps: RefCell<BTreeMap<String, Rc<App>>>,
    manifests: RefCell<BTreeMap<String, Manifest>>,
    routes: RefCell<Rc<RouteTable<Target>>>,
    next_index: Cell<usize>,
}

/// The data plane. Lives on one thread, inside a `LocalSet`; clones are the same data plane.
#[derive(Clone)]
pub struct Flow {
    inner: Rc<Inner>,
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
            routes: RefCell::new(Rc::new(RouteTable::empty())),
            next_index: Cell::new(0),
        });
        tokio::task::spawn_local(Rc::clone(&node).ring_bells());
        tokio::task::spawn_local(Rc::clone(&node).keep_time());
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
        target.app.pool.borrow().bytes()
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
        if self.inner.node.draining.get() {
            return Err(InvokeError::Draining);
        }
        Upload::begin(&target.app, target.function, head, body_len, wish)
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

    /// Starts a version of an app, waits until all its replicas are ready, switches the routes to it, and stops the
    /// version before once that has finished what it had.
    ///
    /// # Errors
    /// [`DeployError`]; what ran before goes on then.
    pub async fn deploy(&self, spec: AppSpec) -> Result<Deployed, DeployError> {
        let node = &self.inner.node;
        if node.draining.get() {
            return Err(DeployError::Draining);
        }
        let (hosting, groups) = self.arrange(&spec)?;
        let name = spec.manifest.app.name.to_string();
        self.check_routes(&spec.manifest)?;
        let pool = &spec.manifest.pool;
        let mut pool = Pool::create(&name, pool.size.bytes(), pool.huge_pages)
            .map_err(|error| DeployError::Pool { why: error.to_string() })?;
        if !groups.is_empty() && spec.manifest.app.trust == Trust::Buffer {
            // The key of a large buffer's pages follows the buffer.
            pool.keep_pages_apart();
        }
        let index = self.inner.next_index.get();
        self.inner.next_index.set(index + 1);
        let app = App::new(node, &spec, index, Parts { pool, hosting, groups });
        raise(&app);
        if let Err(error) = wait_until_ready(&app).await {
            lifecycle::stop(&app, Duration::ZERO).await;
            return Err(error);
        }
        // Another app may have been deployed meanwhile.
        if let Err(error) = self.check_routes(&spec.manifest) {
            lifecycle::stop(&app, Duration::ZERO).await;
            return Err(error);
        }
        self.inner.manifests.borrow_mut().insert(name.clone(), spec.manifest);
        let old = self.inner.apps.borrow_mut().insert(name.clone(), Rc::clone(&app));
        self.switch_routes();
        if let Some(old) = old {
            tokio::task::spawn_local(async move { lifecycle::stop(&old, DRAIN_WITHIN).await });
        }
        crate::spill::resume(&app);
        let replicas = u32::try_from(app.replicas().len()).unwrap_or(u32::MAX);
        Ok(Deployed { app: name, version: spec.version, replicas })
    }

    /// How each function is to run, and which share cells.
    fn arrange(&self, spec: &AppSpec) -> Result<(Vec<Hosting>, Vec<Rc<Group>>), DeployError> {
        let functions = &spec.manifest.functions;
        let program = match functions.values().any(Function::wants_cell) {
            true => hosting::cells(self.inner.node.options.cell_program.as_ref()),
            // Nothing asks what the machine can do.
            false => Ok(PathBuf::new()),
        };
        let hosting = hosting::decide(spec, &program)?;
        let program = program.as_deref().unwrap_or(Path::new(""));
        let groups = cells::form(&spec.manifest, &hosting, program)?;
        Ok((hosting, groups))
    }

    /// Whether `manifest`'s routes can stand beside those of every other app.
    fn check_routes(&self, manifest: &Manifest) -> Result<(), DeployError> {
        let own = manifest.app.name.as_str();
        for (other, theirs) in self.inner.manifests.borrow().iter().filter(|(name, _)| *name != own) {
            let rows = theirs.routes.iter().chain(&manifest.routes).map(|route| (route.clone(), ()));
            RouteTable::compile(rows)
                .map_err(|clash| DeployError::Routes { other: other.clone(), clash: clash.to_string() })?;
        }
        Ok(())
    }

    /// Puts the routes of what runs now in the place of those before.
    fn switch_routes(&self) {
        let apps = self.inner.apps.borrow();
        let mut rows = Vec::new();
        for (name, manifest) in self.inner.manifests.borrow().iter() {
            let Some(app) = apps.get(name) else { continue };
            for route in &manifest.routes {
                if let Some(function) = app.functions.iter().position(|f| f.name == route.function) {
                    rows.push((route.clone(), Target { app: Rc::clone(app), function }));
                }
            }
        }
        // They were checked one by one before.
        if let Ok(table) = RouteTable::compile(rows) {
            *self.inner.routes.borrow_mut() = Rc::new(table);
        }
    }

    /// Stops an app, once it has finished what it had. `false` if there is none of that name.
    pub async fn remove(&self, app: &str) -> bool {
        let Some(old) = self.inner.apps.borrow_mut().remove(app) else { return false };
        self.inner.manifests.borrow_mut().remove(app);
        self.switch_routes();
        lifecycle::stop(&old, DRAIN_WITHIN).await;
        true
    }

    /// Ends the cells of an app that have nothing to do, and waits for their ends. Gives how many have ended; `None` if
    /// there is no such app.
    pub async fn evict(&self, app: &str) -> Option<u32> {
        let app = self.inner.apps.borrow().get(app).cloned()?;
        Some(cells::evict(&app).await)
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
        let found = self.inner.apps.borrow().get(app).cloned().ok_or(InvokeError::Unknown)?;
        let index = found.functions.iter().position(|state| state.name.as_str() == function);
        let function = index.ok_or(InvokeError::Unknown)?;
        let (head, wish) = self.direct_head(&call)?;
        let target = Target { app: found, function };
        let mut upload = self.begin(&target, &head, Some(call.body.len() as u64), wish)?;
        upload.write(&call.body)?;
        let reply = upload.finish().await?;
        let invocation = crate::receipts::name(reply.invocation());
        let headers = reply.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        let status = reply.status();
        let mut body = reply.into_body();
        let body = body.copy_to_bytes(body.remaining()).to_vec();
        Ok(DirectReply { status, headers, body, invocation })
    }

    // ---- what there is to know ------------------------------------------------------------------------------

    /// Has the cells of an app, or of all, say who holds what, so that the next look finds it. Waits for them a little: one
    /// that is deep in its work answers within a tick of its own.
    pub async fn have_cells_show(&self, app: Option<&str>) {
        let replicas: Vec<_> = {
            let apps = self.inner.apps.borrow();
            let wanted = apps.iter().filter(|(name, _)| app.is_none_or(|app| app == *name));
            wanted.flat_map(|(_, app)| app.replicas()).collect()
        };
        crate::inspect::have_cells_show(&replicas).await;
    }

    /// What runs.
    #[must_use]
    pub fn status(&self) -> Vec<AppStatus> {
        self.inner.apps.borrow().values().map(|app| crate::inspect::app(app)).collect()
    }

    /// Counters since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let in_flight = self.inner.apps.borrow().values().map(|app| u64::from(app.in_flight())).sum();
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
        let apps = self.inner.apps.borrow();
        let wanted = apps.iter().filter(|(name, _)| app.is_none_or(|app| app == *name));
        wanted.flat_map(|(_, app)| crate::inspect::capabilities(app)).collect()
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
        let apps: Vec<Rc<App>> = self.inner.apps.borrow().values().cloned().collect();
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
    for (function, state) in app.functions.iter().enumerate() {
        if state.hosting.is_in_cell() {
            continue;
        }
        for place in 0..state.replicas.borrow().len() {
            tokio::task::spawn_local(lifecycle::keep_alive(Rc::clone(app), function, place));
        }
    }
    for group in &app.groups {
        tokio::task::spawn_local(cells::keep_template(Rc::clone(app), Rc::clone(group)));
        for place in 0..group.places() {
            tokio::task::spawn_local(cells::keep_cell(Rc::clone(app), Rc::clone(group), place));
        }
    }
}
