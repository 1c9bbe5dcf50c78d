//! The data plane as the control plane sees it: the only file that names `baton-flow`'s handle.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use baton_catalog::{FunctionName, Manifest};
use baton_flow::InvokeError;
use baton_flow::status::{AppStatus, CapabilityRow, LogLine, PoolStatus, Receipt, Totals};

/// An app to be started.
#[derive(Clone, Debug)]
pub struct AppSpec {
    /// What it declares.
    pub manifest: Manifest,
    /// Counts deployments of this app, from 1.
    pub version: u64,
    /// The executable of each function.
    pub artifacts: BTreeMap<FunctionName, PathBuf>,
}

/// An app that runs.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The app.
    pub app: String,
    /// Its version.
    pub version: u64,
    /// Replicas that are ready.
    pub replicas: u32,
}

/// An invocation from the admin API.
#[derive(Clone, Debug, Default)]
pub struct DirectCall {
    /// The method.
    pub method: String,
    /// The path.
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
    /// Header names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// The invocation's id.
    pub invocation: String,
}

/// The data-plane thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneGone;

impl fmt::Display for PlaneGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node's data plane has ended")
    }
}

impl std::error::Error for PlaneGone {}

/// The data plane's reason for not starting an app.
pub type DeployRefused = Box<dyn std::error::Error + Send + Sync>;

/// An answer that comes from the data-plane thread.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PlaneGone>> + Send + 'a>>;

/// The data plane: the real one on its own thread, or a stand-in of the tests.
pub trait Plane: Send + Sync + 'static {
    /// Starts a version of an app, switches to it once it is ready, and stops the one before.
    fn deploy(&self, spec: AppSpec) -> Answer<'_, Result<Deployed, DeployRefused>>;
    /// Stops an app; says whether there was one.
    fn remove(&self, app: String) -> Answer<'_, bool>;
    /// What runs.
    fn status(&self) -> Answer<'_, Vec<AppStatus>>;
    /// Counters since the start.
    fn totals(&self) -> Answer<'_, Totals>;
    /// An app's pool.
    fn pool(&self, app: String) -> Answer<'_, Option<PoolStatus>>;
    /// Who may access what now.
    fn capabilities(&self, app: Option<String>) -> Answer<'_, Vec<CapabilityRow>>;
    /// Turns receipts on or off.
    fn record(&self, on: bool) -> Answer<'_, ()>;
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
    /// Kept log lines after a number, oldest first.
    fn logs_after(
        &self,
        number: u64,
        app: Option<String>,
        function: Option<String>,
    ) -> Answer<'_, Vec<LogLine>>;
}
