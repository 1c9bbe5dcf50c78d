//! Versions of apps: up, into the routes, out of them.
//!
//! ```text
//!            prepare                    route                          route
//!   (none) ──────────▶ ready, no routes ─────▶ answers, alone or beside ─────▶ finishes what it has, stops
//!                          │ discard           another version
//!                          └─────────▶ stops
//! ```
//!
//! `route` changes one table for another: a request finds its version in the table of the moment in which its head is read,
//! and stays within that version wherever its calls lead. Nothing waits in `route`, and nothing is changed if it fails.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use baton_catalog::{Function, Manifest, Route, RouteTable, Side, Subscription, Trust, merged};

use super::{Flow, Target};
use crate::app::{App, Parts};
use crate::cells::{self, Group};
use crate::deploy::{AppSpec, Deployed, wait_until_ready};
use crate::error::DeployError;
use crate::hosting::{self, Hosting};
use crate::lifecycle;
use crate::status::VersionStatus;
use crate::traffic::{Split, Traffic};

/// How long a version may take at least to finish what it has, beside the longest time that one of its functions may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// A version that is ready.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) app: Rc<App>,
    pub(super) manifest: Manifest,
}

/// A version beside the leading one.
#[derive(Clone)]
pub(super) struct Beside {
    pub(super) version: Version,
    split: Rc<Split>,
}

/// Where a request goes that does not stay with the leading version.
#[derive(Clone)]
pub(super) struct Other {
    pub(super) split: Rc<Split>,
    pub(super) function: usize,
    pub(super) listens: Option<Rc<[Subscription]>>,
}

impl Flow {
    /// Starts a version of an app, waits until all its replicas are ready, switches the routes to it, and stops the
    /// versions before once they have finished what they had.
    ///
    /// # Errors
    /// [`DeployError`]; what ran before goes on then.
    pub async fn deploy(&self, spec: AppSpec) -> Result<Deployed, DeployError> {
        let deployed = self.prepare(spec).await?;
        if let Err(error) = self.route(&Traffic::all_to(&deployed.app, deployed.version)) {
            self.discard(&deployed.app);
            return Err(error);
        }
        Ok(deployed)
    }

    /// Starts a version of an app and waits until all its replicas are ready. No route leads to it until [`route`](Self::route)
    /// says so.
    ///
    /// # Errors
    /// [`DeployError`]; nothing of it runs then.
    pub async fn prepare(&self, spec: AppSpec) -> Result<Deployed, DeployError> {
        let node = &self.inner.node;
        if node.draining.get() {
            return Err(DeployError::Draining);
        }
        let (hosting, groups) = self.arrange(&spec)?;
        let name = spec.manifest.app.name.to_string();
        self.check_routes(&spec.manifest)?;
        let (wake, mut pool) = crate::guarded::begin(&spec.manifest, &hosting).await?;
        if !groups.is_empty() && spec.manifest.app.trust() == Trust::Buffer {
            // The key of a large buffer's pages follows the buffer.
            pool.keep_pages_apart();
        }
        let index = self.inner.next_index.get();
        self.inner.next_index.set(index + 1);
        let app = App::new(node, &spec, index, Parts { pool, hosting, groups, wake });
        app.tell_wake();
        self.equip(&app, &spec.manifest).await?;
        super::raise(&app);
        // Another app may have been deployed meanwhile.
        let ready = wait_until_ready(&app).await.and_then(|()| self.check_routes(&spec.manifest));
        if let Err(error) = ready {
            lifecycle::stop(&app, Duration::ZERO).await;
            return Err(error);
        }
        let replicas = u32::try_from(app.replicas().len()).unwrap_or(u32::MAX);
        self.inner.ready.borrow_mut().push(Version { app, manifest: spec.manifest });
        Ok(Deployed { app: name, version: spec.version, replicas })
    }

    /// Has the versions of an app answer its requests as `traffic` says, from the next request on. Those that it does not name
    /// finish what they have, and stop.
    ///
    /// # Errors
    /// [`DeployError::NotHere`] for a version that is not ready, [`DeployError::Routes`]; nothing is changed then.
    pub fn route(&self, traffic: &Traffic) -> Result<(), DeployError> {
        let name = &traffic.app;
        let lead = self.version(name, traffic.leading)?;
        let beside = match &traffic.next {
            Some(next) => {
                let version = self.version(name, next.version)?;
                let split = Rc::new(Split::new(Rc::clone(&version.app), next));
                Some(Beside { version, split })
            }
            None => None,
        };
        let before = self.of(name);
        let former = (
            self.inner.apps.borrow().get(name).cloned(),
            self.inner.manifests.borrow().get(name).cloned(),
            self.inner.beside.borrow().get(name).cloned(),
        );
        self.put(name, Some(Rc::clone(&lead.app)), Some(lead.manifest), beside);
        if let Err(error) = self.switch_routes() {
            let (app, manifest, beside) = former;
            self.put(name, app, manifest, beside);
            return Err(error);
        }
        self.inner.ready.borrow_mut().retain(|ready| ready.app.name != *name);
        let kept = self.of(name);
        for old in before.into_iter().filter(|old| !kept.iter().any(|kept| Rc::ptr_eq(kept, old))) {
            retire(old);
        }
        crate::spill::resume(&lead.app);
        Ok(())
    }

    fn put(&self, name: &str, app: Option<Rc<App>>, manifest: Option<Manifest>, beside: Option<Beside>) {
        fn set<V>(map: &mut std::collections::BTreeMap<String, V>, name: &str, value: Option<V>) {
            match value {
                Some(value) => map.insert(name.to_owned(), value),
                None => map.remove(name),
            };
        }
        set(&mut self.inner.apps.borrow_mut(), name, app);
        set(&mut self.inner.manifests.borrow_mut(), name, manifest);
        set(&mut self.inner.beside.borrow_mut(), name, beside);
    }

    /// Stops what was prepared of an app and has no routes.
    pub fn discard(&self, app: &str) {
        let mut ready = self.inner.ready.borrow_mut();
        let (unwanted, rest) = ready.drain(..).partition(|ready| ready.app.name == app);
        *ready = rest;
        let unwanted: Vec<Version> = unwanted;
        unwanted.into_iter().for_each(|version| retire(version.app));
    }

    /// Stops an app, once it has finished what it had. `false` if there is none of that name.
    pub async fn remove(&self, app: &str) -> bool {
        let old = self.of(app);
        self.put(app, None, None, None);
        self.inner.ready.borrow_mut().retain(|ready| ready.app.name != app);
        self.remember_policies(app, None);
        // Fewer routes never clash.
        let _ = self.switch_routes();
        for old in &old {
            lifecycle::stop(old, patience(old)).await;
        }
        !old.is_empty()
    }

    /// The version of an app that is ready, the newest of that number.
    fn version(&self, name: &str, version: u64) -> Result<Version, DeployError> {
        let is_it = |app: &App| app.name == name && app.version == version;
        if let Some(ready) = self.inner.ready.borrow().iter().rev().find(|ready| is_it(&ready.app)) {
            return Ok(ready.clone());
        }
        let (apps, manifests) = (self.inner.apps.borrow(), self.inner.manifests.borrow());
        let leading = apps.get(name).zip(manifests.get(name)).filter(|(app, _)| is_it(app));
        if let Some((app, manifest)) = leading {
            return Ok(Version { app: Rc::clone(app), manifest: manifest.clone() });
        }
        let beside = self.inner.beside.borrow();
        let beside = beside.get(name).filter(|beside| is_it(&beside.version.app));
        beside
            .map(|beside| beside.version.clone())
            .ok_or_else(|| DeployError::NotHere { app: name.to_owned(), version })
    }

    /// All of an app that runs and is not on its way out: the leading version first.
    pub(super) fn of(&self, name: &str) -> Vec<Rc<App>> {
        let mut found: Vec<Rc<App>> = self.inner.apps.borrow().get(name).cloned().into_iter().collect();
        found.extend(self.inner.beside.borrow().get(name).map(|beside| Rc::clone(&beside.version.app)));
        let ready = self.inner.ready.borrow();
        found.extend(ready.iter().filter(|ready| ready.app.name == name).map(|ready| Rc::clone(&ready.app)));
        found
    }

    /// The versions of an app with what they declare, the leading one first.
    pub(crate) fn versions_of(&self, name: &str) -> Vec<(Rc<App>, Manifest)> {
        let lead = self.inner.apps.borrow().get(name).cloned();
        let mut found: Vec<_> =
            lead.zip(self.inner.manifests.borrow().get(name).cloned()).into_iter().collect();
        let pair = |version: &Version| (Rc::clone(&version.app), version.manifest.clone());
        found.extend(self.inner.beside.borrow().get(name).map(|beside| pair(&beside.version)));
        let ready = self.inner.ready.borrow();
        found.extend(ready.iter().filter(|ready| ready.app.name == name).map(pair));
        found
    }

    /// All that run and are not on their way out.
    pub(super) fn all(&self) -> Vec<Rc<App>> {
        let mut found: Vec<Rc<App>> = self.inner.apps.borrow().values().cloned().collect();
        found.extend(self.inner.beside.borrow().values().map(|beside| Rc::clone(&beside.version.app)));
        found.extend(self.inner.ready.borrow().iter().map(|ready| Rc::clone(&ready.app)));
        found
    }

    /// The version of an app that a call between nodes is about; the leading one where that does not run here.
    pub(crate) fn app_of(&self, name: &str, version: u64) -> Option<Rc<App>> {
        let leading = self.app(name)?;
        if leading.version == version {
            return Some(leading);
        }
        let other = self.of(name).into_iter().find(|app| app.version == version);
        Some(other.unwrap_or(leading))
    }

    /// What runs of each app, those versions included that finish what they have. By app, the oldest first.
    #[must_use]
    pub fn versions(&self) -> Vec<VersionStatus> {
        let living: Vec<Rc<App>> =
            self.inner.node.apps.borrow().iter().filter_map(std::rc::Weak::upgrade).collect();
        let beside = self.inner.beside.borrow();
        let apps = self.inner.apps.borrow();
        let ready = self.inner.ready.borrow();
        let row = |app: &Rc<App>| {
            let split = beside.get(&app.name).filter(|beside| Rc::ptr_eq(&beside.version.app, app));
            let leads = apps.get(&app.name).is_some_and(|leading| Rc::ptr_eq(leading, app));
            let (state, share) = match (leads, split) {
                (true, _) => {
                    let rest =
                        beside.get(&app.name).map_or(10_000, |next| next.split.share().rest().hundredths());
                    (if rest == 0 { "standby" } else { "serving" }, rest)
                }
                (false, Some(next)) => ("canary", next.split.share().hundredths()),
                (false, None) if ready.iter().any(|ready| Rc::ptr_eq(&ready.app, app)) => ("ready", 0),
                (false, None) => ("draining", 0),
            };
            // What the leading version keeps back is all that there is, if it has nothing.
            let state = if state == "canary" && share == 10_000 { "serving" } else { state };
            let answered = app.answered.get();
            VersionStatus {
                app: app.name.clone(),
                version: app.version,
                state: state.to_owned(),
                share,
                requests: answered.requests,
                failures: answered.failures,
                in_flight: app.in_flight(),
                replicas: u32::try_from(app.replicas().len()).unwrap_or(u32::MAX),
            }
        };
        let mut rows: Vec<VersionStatus> = living.iter().map(row).collect();
        rows.retain(|row| row.state != "draining" || row.replicas > 0);
        rows.sort_by(|one, two| (&one.app, one.version).cmp(&(&two.app, two.version)));
        rows
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
        let clash = |other: &str, theirs: &Manifest| {
            let rows = theirs.served().into_iter().chain(manifest.served()).map(|route| (route, ()));
            let compiled = RouteTable::compile(rows);
            compiled
                .map(|_| ())
                .map_err(|clash| DeployError::Routes { other: other.to_owned(), clash: clash.to_string() })
        };
        for (other, theirs) in self.inner.manifests.borrow().iter().filter(|(name, _)| *name != own) {
            clash(other, theirs)?;
        }
        for (other, theirs) in self.inner.beside.borrow().iter().filter(|(name, _)| *name != own) {
            clash(other, &theirs.version.manifest)?;
        }
        Ok(())
    }

    /// Puts the routes of what runs now in the place of those before.
    fn switch_routes(&self) -> Result<(), DeployError> {
        let (apps, beside) = (self.inner.apps.borrow(), self.inner.beside.borrow());
        let mut rows = Vec::new();
        for (name, manifest) in self.inner.manifests.borrow().iter() {
            let Some(app) = apps.get(name) else { continue };
            match beside.get(name) {
                None => {
                    rows.extend(manifest.served().into_iter().enumerate().filter_map(|(place, route)| {
                        let function = position(app, &route)?;
                        let listens = listens(manifest, place, &route);
                        Some((route, Target { app: Rc::clone(app), function, other: None, listens }))
                    }))
                }
                Some(next) => {
                    let (one, two) = (manifest.served(), next.version.manifest.served());
                    for (route, side) in merged(&one, &two) {
                        if let Some(target) = target((app, manifest, &one), (next, &two), side) {
                            rows.push((route, target));
                        }
                    }
                }
            }
        }
        let table = RouteTable::compile(rows);
        // Routes of different apps were held against each other before: these are of two versions of one.
        let table = table.map_err(|clash| DeployError::SplitRoutes { clash: clash.to_string() })?;
        *self.inner.routes.borrow_mut() = Rc::new(table);
        Ok(())
    }
}

fn position(app: &App, route: &Route) -> Option<usize> {
    app.functions.iter().position(|state| state.name == route.function)
}

/// Where a route of two versions leads.
fn target(
    (lead, manifest, routes): (&Rc<App>, &Manifest, &[Route]),
    (next, next_routes): (&Beside, &[Route]),
    side: Side,
) -> Option<Target> {
    let alone = |app: &Rc<App>, manifest: &Manifest, routes: &[Route], place: usize| {
        let route = routes.get(place)?;
        let (function, listens) = (position(app, route)?, listens(manifest, place, route));
        Some(Target { app: Rc::clone(app), function, other: None, listens })
    };
    let of_lead = |place| alone(lead, manifest, routes, place);
    let of_next = |place| alone(&next.version.app, &next.version.manifest, next_routes, place);
    match side {
        Side::Both(one, two) => {
            let Target { function, listens, .. } = of_next(two)?;
            let other = Other { split: Rc::clone(&next.split), function, listens };
            Some(Target { other: Some(other), ..of_lead(one)? })
        }
        Side::First(one) => of_lead(one),
        Side::Second(two) => of_next(two),
    }
}

/// Who gets the events that come by a route of [`Manifest::served`], if it is for events.
fn listens(manifest: &Manifest, place: usize, route: &Route) -> Option<Rc<[Subscription]>> {
    let is_here = |one: &&Subscription| one.path == route.path;
    (place >= manifest.routes.len()).then(|| manifest.subscriptions.iter().filter(is_here).cloned().collect())
}

/// Stops a version, once it has finished what it had.
fn retire(old: Rc<App>) {
    tokio::task::spawn_local(async move { lifecycle::stop(&old, patience(&old)).await });
}

fn patience(app: &App) -> Duration {
    let longest = app.functions.iter().map(|state| state.spec.timeout.duration()).max();
    DRAIN_WITHIN + longest.unwrap_or_default()
}
