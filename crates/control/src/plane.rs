//! The data plane as the control plane sees it: the only file that names `baton-flow`'s handle.

use std::future::Future;
use std::pin::Pin;

use baton_catalog::policy::AppPolicies;
use baton_flow::status::{
    AppStatus, CapabilityRow, LogLine, Observed, PoolStatus, Receipt, ScaleStatus, Totals, VersionStatus,
};
use baton_flow::{
    AppSpec, DeployError, Deployed, DirectCall, DirectParts, DirectReply, Hosts, InvokeError, PlaneGone,
    PlaneHandle, PolicyError, PolicyStatus, ScaleError, Traffic,
};

use crate::protocol::ScaleWish;

/// An answer that comes from the data-plane thread.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PlaneGone>> + Send + 'a>>;

/// The data plane: the real one on its own thread, or a stand-in of the tests.
pub trait Plane: Send + Sync + 'static {
    /// Starts a version of an app and waits until it is ready. It gets no requests yet.
    fn prepare(&self, spec: AppSpec) -> Answer<'_, Result<Deployed, DeployError>>;
    /// Has versions that are ready answer, from now on; the app's others finish what they have.
    fn route(&self, traffic: Traffic) -> Answer<'_, Result<(), DeployError>>;
    /// Stops what was prepared of an app and gets no requests.
    fn discard(&self, app: String) -> Answer<'_, ()>;
    /// What runs of each app, and what it answered.
    fn versions(&self) -> Answer<'_, Vec<VersionStatus>>;
    /// What runs beside the leading versions.
    fn status_beside(&self) -> Answer<'_, Vec<AppStatus>>;
    /// Sets policies of an app that runs, or takes them back.
    fn set_policies(&self, app: String, policies: Option<AppPolicies>)
    -> Answer<'_, Result<(), PolicyError>>;
    /// Remembers policies of an app that does not run yet.
    fn remember_policies(&self, app: String, policies: Option<AppPolicies>) -> Answer<'_, ()>;
    /// The policies of an app, and what they have done.
    fn policies(&self, app: String) -> Answer<'_, Option<PolicyStatus>>;
    /// Stops an app; says whether there was one.
    fn remove(&self, app: String) -> Answer<'_, bool>;
    /// Ends the cells of an app that have nothing to do; how many have ended, `None` without such an app.
    fn evict(&self, app: String) -> Answer<'_, Option<u32>>;
    /// Sets how many replicas of a function there are at least and at most.
    fn scale(
        &self,
        app: String,
        function: String,
        wish: ScaleWish,
    ) -> Answer<'_, Result<ScaleStatus, ScaleError>>;
    /// What runs.
    fn status(&self) -> Answer<'_, Vec<AppStatus>>;
    /// What runs, those beside the leading versions included, without a look into cells: what it costs does not matter each
    /// second.
    fn load(&self) -> Answer<'_, Vec<AppStatus>>;
    /// Says what other nodes host, from now on.
    fn set_hosts(&self, hosts: Hosts) -> Answer<'_, ()>;
    /// Counters since the start.
    fn totals(&self) -> Answer<'_, Totals>;
    /// An app's pool.
    fn pool(&self, app: String) -> Answer<'_, Option<PoolStatus>>;
    /// Who may access what now.
    fn capabilities(&self, app: Option<String>) -> Answer<'_, Vec<CapabilityRow>>;
    /// What is recorded of invocations, and what came of it.
    fn observed(&self) -> Answer<'_, Observed>;
    /// Buffers of an app by who holds them, most first.
    fn holders(&self, app: String) -> Answer<'_, Vec<(String, u64)>>;
    /// Turns receipts on or off.
    fn record(&self, on: bool) -> Answer<'_, ()>;
    /// Whether receipts are written.
    fn recording(&self) -> Answer<'_, bool>;
    /// The receipt of one invocation.
    fn receipt(&self, invocation: String) -> Answer<'_, Option<Receipt>>;
    /// The receipts that are kept, newest first.
    fn receipts(&self) -> Answer<'_, Vec<Receipt>>;
    /// Calls a function.
    fn invoke(
        &self,
        app: String,
        function: String,
        call: DirectCall,
    ) -> Answer<'_, Result<DirectReply, InvokeError>>;
    /// Calls a function, for one who can do with an answer in parts.
    fn invoke_in_parts(
        &self,
        app: String,
        function: String,
        call: DirectCall,
    ) -> Answer<'_, Result<DirectParts, InvokeError>>;
    /// Kept log lines after a number, oldest first.
    fn logs_after(
        &self,
        number: u64,
        app: Option<String>,
        function: Option<String>,
    ) -> Answer<'_, Vec<LogLine>>;
}

impl Plane for PlaneHandle {
    fn prepare(&self, spec: AppSpec) -> Answer<'_, Result<Deployed, DeployError>> {
        Box::pin(self.run(|flow| async move { flow.prepare(spec).await }))
    }

    fn route(&self, traffic: Traffic) -> Answer<'_, Result<(), DeployError>> {
        Box::pin(self.run(move |flow| async move { flow.route(&traffic) }))
    }

    fn discard(&self, app: String) -> Answer<'_, ()> {
        Box::pin(self.run(move |flow| async move { flow.discard(&app) }))
    }

    fn versions(&self) -> Answer<'_, Vec<VersionStatus>> {
        Box::pin(self.run(|flow| async move { flow.versions() }))
    }

    fn status_beside(&self) -> Answer<'_, Vec<AppStatus>> {
        Box::pin(self.run(|flow| async move { flow.status_beside() }))
    }

    fn set_policies(
        &self,
        app: String,
        policies: Option<AppPolicies>,
    ) -> Answer<'_, Result<(), PolicyError>> {
        Box::pin(self.run(move |flow| async move { flow.set_policies(&app, policies).await }))
    }

    fn remember_policies(&self, app: String, policies: Option<AppPolicies>) -> Answer<'_, ()> {
        Box::pin(self.run(move |flow| async move { flow.remember_policies(&app, policies) }))
    }

    fn policies(&self, app: String) -> Answer<'_, Option<PolicyStatus>> {
        Box::pin(self.run(move |flow| async move { flow.policies(&app) }))
    }

    fn remove(&self, app: String) -> Answer<'_, bool> {
        Box::pin(self.run(|flow| async move { flow.remove(&app).await }))
    }

    fn evict(&self, app: String) -> Answer<'_, Option<u32>> {
        Box::pin(self.run(|flow| async move { flow.evict(&app).await }))
    }

    fn scale(
        &self,
        app: String,
        function: String,
        wish: ScaleWish,
    ) -> Answer<'_, Result<ScaleStatus, ScaleError>> {
        Box::pin(self.run(move |flow| async move { flow.scale(&app, &function, wish.min, wish.max) }))
    }

    fn status(&self) -> Answer<'_, Vec<AppStatus>> {
        Box::pin(self.run(|flow| async move {
            flow.have_cells_show(None).await;
            flow.status()
        }))
    }

    fn load(&self) -> Answer<'_, Vec<AppStatus>> {
        Box::pin(self.run(|flow| async move { flow.load().await }))
    }

    fn set_hosts(&self, hosts: Hosts) -> Answer<'_, ()> {
        Box::pin(self.run(move |flow| async move { flow.set_hosts(hosts) }))
    }

    fn totals(&self) -> Answer<'_, Totals> {
        Box::pin(self.run(|flow| async move { flow.totals() }))
    }

    fn pool(&self, app: String) -> Answer<'_, Option<PoolStatus>> {
        Box::pin(self.run(|flow| async move {
            flow.have_cells_show(Some(&app)).await;
            flow.pool(&app)
        }))
    }

    fn capabilities(&self, app: Option<String>) -> Answer<'_, Vec<CapabilityRow>> {
        Box::pin(self.run(|flow| async move {
            flow.have_cells_show(app.as_deref()).await;
            flow.capabilities(app.as_deref())
        }))
    }

    fn observed(&self) -> Answer<'_, Observed> {
        Box::pin(self.run(|flow| async move { flow.observed() }))
    }

    fn holders(&self, app: String) -> Answer<'_, Vec<(String, u64)>> {
        Box::pin(self.run(move |flow| async move { flow.holders(&app) }))
    }

    fn record(&self, on: bool) -> Answer<'_, ()> {
        Box::pin(self.run(move |flow| async move { flow.record(on) }))
    }

    fn recording(&self) -> Answer<'_, bool> {
        Box::pin(self.run(|flow| async move { flow.sampling().receipts_every > 0 }))
    }

    fn receipt(&self, invocation: String) -> Answer<'_, Option<Receipt>> {
        Box::pin(self.run(|flow| async move { flow.receipt(&invocation) }))
    }

    fn receipts(&self) -> Answer<'_, Vec<Receipt>> {
        Box::pin(self.run(|flow| async move { flow.receipts() }))
    }

    fn invoke(
        &self,
        app: String,
        function: String,
        call: DirectCall,
    ) -> Answer<'_, Result<DirectReply, InvokeError>> {
        Box::pin(self.run(|flow| async move { flow.invoke(&app, &function, call).await }))
    }

    fn invoke_in_parts(
        &self,
        app: String,
        function: String,
        call: DirectCall,
    ) -> Answer<'_, Result<DirectParts, InvokeError>> {
        Box::pin(self.run(|flow| async move { flow.invoke_in_parts(&app, &function, call).await }))
    }

    fn logs_after(
        &self,
        number: u64,
        app: Option<String>,
        function: Option<String>,
    ) -> Answer<'_, Vec<LogLine>> {
        Box::pin(
            self.run(move |flow| async move { flow.logs_after(number, app.as_deref(), function.as_deref()) }),
        )
    }
}
