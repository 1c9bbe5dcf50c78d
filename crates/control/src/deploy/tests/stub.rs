//! A stand-in for the data plane.

use super::*;

/// A data plane that only notes what it is asked to do.
#[derive(Debug, Default)]
pub(crate) struct Stub {
    pub(crate) apps: Mutex<BTreeMap<String, u64>>,
    /// What is ready and gets no requests, by app and version.
    pub(crate) prepared: Mutex<Vec<(String, u64)>>,
    /// How often something was started.
    pub(crate) starts: AtomicU64,
    /// The traffic of each app.
    pub(crate) traffic: Mutex<BTreeMap<String, Traffic>>,
    /// What versions are said to have answered: requests and failures.
    pub(crate) answered: Mutex<BTreeMap<u64, (u64, u64)>>,
    /// The version that does not start.
    pub(crate) broken: AtomicU64,
    pub(crate) refuse: AtomicBool,
    pub(crate) recording: AtomicBool,
    pub(crate) hosts: Mutex<Hosts>,
    /// Where versions wait for each other at their start, if they shall.
    pub(crate) start_line: Mutex<Option<Arc<tokio::sync::Barrier>>>,
    /// The functions that the app deployed last has here.
    pub(crate) here: Mutex<Option<std::collections::BTreeSet<FunctionName>>>,
    /// The files of the function that was deployed last.
    pub(crate) trees: Mutex<Option<std::path::PathBuf>>,
}

fn ready<T: Send + 'static>(value: T) -> Answer<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

fn pool_status() -> PoolStatus {
    PoolStatus {
        pool_bytes: 4096,
        free_bytes: 1024,
        buffers_out: 3,
        buffers_stashed: 1,
        buffers_in_use: 2,
        orphans: 0,
    }
}

impl Plane for Stub {
    fn set_policies(&self, _: String, _: Option<AppPolicies>) -> Answer<'_, Result<(), PolicyError>> {
        Box::pin(async { Ok(Err(PolicyError::Unknown)) })
    }

    fn remember_policies(&self, _: String, _: Option<AppPolicies>) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn policies(&self, _: String) -> Answer<'_, Option<PolicyStatus>> {
        Box::pin(async { Ok(None) })
    }

    fn prepare(&self, spec: AppSpec) -> Answer<'_, Result<Deployed, DeployError>> {
        let app = spec.manifest.app.name.to_string();
        let is_broken = app == "broken" || self.broken.load(Ordering::Relaxed) == spec.version;
        if self.refuse.load(Ordering::Relaxed) || is_broken {
            let why = "it died at its start".to_owned();
            return ready(Err(DeployError::NotReady { function: "hello".to_owned(), why }));
        }
        assert!(spec.artifacts.values().all(|path| path.is_file()));
        for files in spec.files.values() {
            assert!(files.bundle.is_file() && files.tree.as_ref().is_none_or(|tree| tree.is_dir()));
            self.trees.lock().unwrap().clone_from(&files.tree);
        }
        let start_line = self.start_line.lock().unwrap().take();
        Box::pin(async move {
            if let Some(start_line) = start_line {
                start_line.wait().await;
            }
            self.starts.fetch_add(1, Ordering::Relaxed);
            self.prepared.lock().unwrap().push((app.clone(), spec.version));
            *self.here.lock().unwrap() = spec.here;
            Ok(Ok(Deployed { app, version: spec.version, replicas: 1 }))
        })
    }
    fn route(&self, traffic: Traffic) -> Answer<'_, Result<(), DeployError>> {
        let app = traffic.app.clone();
        let before = self.traffic.lock().unwrap().get(&app).cloned();
        let ran = |version: u64| {
            before.as_ref().is_some_and(|before| {
                before.leading == version || before.next.as_ref().is_some_and(|next| next.version == version)
            })
        };
        let mut prepared = self.prepared.lock().unwrap();
        for version in std::iter::once(traffic.leading).chain(traffic.next.as_ref().map(|next| next.version))
        {
            if !ran(version) && !prepared.contains(&(app.clone(), version)) {
                return ready(Err(DeployError::NotHere { app, version }));
            }
        }
        prepared.retain(|(other, _)| *other != app);
        self.apps.lock().unwrap().insert(app.clone(), traffic.leading);
        self.traffic.lock().unwrap().insert(app, traffic);
        ready(Ok(()))
    }
    fn discard(&self, app: String) -> Answer<'_, ()> {
        self.prepared.lock().unwrap().retain(|(other, _)| *other != app);
        ready(())
    }
    fn versions(&self) -> Answer<'_, Vec<VersionStatus>> {
        let answered = self.answered.lock().unwrap();
        let row = |(version, (requests, failures)): (&u64, &(u64, u64))| VersionStatus {
            app: "shop".to_owned(),
            version: *version,
            state: "serving".to_owned(),
            share: 0,
            requests: *requests,
            failures: *failures,
            in_flight: 0,
            replicas: 1,
        };
        ready(answered.iter().map(row).collect())
    }
    fn status_beside(&self) -> Answer<'_, Vec<AppStatus>> {
        ready(Vec::new())
    }
    fn remove(&self, app: String) -> Answer<'_, bool> {
        self.traffic.lock().unwrap().remove(&app);
        ready(self.apps.lock().unwrap().remove(&app).is_some())
    }
    fn evict(&self, app: String) -> Answer<'_, Option<u32>> {
        ready(self.apps.lock().unwrap().contains_key(&app).then_some(2))
    }
    fn scale(
        &self,
        app: String,
        function: String,
        wish: ScaleWish,
    ) -> Answer<'_, Result<ScaleStatus, ScaleError>> {
        let known = self.apps.lock().unwrap().contains_key(&app) && function == "cart";
        let (min, max) = (wish.min.unwrap_or(1), wish.max.unwrap_or(2));
        ready(match known {
            false => Err(ScaleError::Unknown),
            true if min > max => Err(ScaleError::MinAboveMax { min, max }),
            true => Ok(ScaleStatus { min, max, wanted: min }),
        })
    }
    fn status(&self) -> Answer<'_, Vec<AppStatus>> {
        let apps = self.apps.lock().unwrap();
        let status = |(app, version): (&String, &u64)| AppStatus {
            app: app.clone(),
            version: *version,
            pool: pool_status(),
            ..AppStatus::default()
        };
        ready(apps.iter().map(status).collect())
    }
    fn load(&self) -> Answer<'_, Vec<AppStatus>> {
        self.status()
    }
    fn set_hosts(&self, hosts: Hosts) -> Answer<'_, ()> {
        *self.hosts.lock().unwrap() = hosts;
        ready(())
    }
    fn totals(&self) -> Answer<'_, Totals> {
        ready(Totals { invocations: 7, failures: 1, ..Totals::default() })
    }
    fn pool(&self, app: String) -> Answer<'_, Option<PoolStatus>> {
        ready(self.apps.lock().unwrap().contains_key(&app).then(pool_status))
    }
    fn capabilities(&self, _: Option<String>) -> Answer<'_, Vec<CapabilityRow>> {
        ready(Vec::new())
    }
    fn observed(&self) -> Answer<'_, Observed> {
        ready(Observed { receipts: 9, ..Observed::default() })
    }
    fn holders(&self, _: String) -> Answer<'_, Vec<(String, u64)>> {
        ready(vec![("hello".to_owned(), 2)])
    }
    fn record(&self, on: bool) -> Answer<'_, ()> {
        self.recording.store(on, Ordering::Relaxed);
        ready(())
    }
    fn recording(&self) -> Answer<'_, bool> {
        ready(self.recording.load(Ordering::Relaxed))
    }
    fn receipt(&self, _: String) -> Answer<'_, Option<Receipt>> {
        ready(None)
    }
    fn receipts(&self) -> Answer<'_, Vec<Receipt>> {
        ready(Vec::new())
    }
    fn invoke(
        &self,
        app: String,
        function: String,
        call: DirectCall,
    ) -> Answer<'_, Result<DirectReply, InvokeError>> {
        if !self.apps.lock().unwrap().contains_key(&app) {
            return ready(Err(InvokeError::Unknown));
        }
        let mut headers = call.headers;
        headers.push(("x-line".to_owned(), format!("{} {} {function}", call.method, call.path).into_bytes()));
        ready(Ok(DirectReply { status: 201, headers, body: call.body, invocation: "00ff".to_owned() }))
    }
    fn invoke_in_parts(
        &self,
        app: String,
        function: String,
        call: DirectCall,
    ) -> Answer<'_, Result<DirectParts, InvokeError>> {
        Box::pin(async move {
            let reply = self.invoke(app, function, call).await?;
            Ok(reply.map(|DirectReply { status, headers, body, .. }| {
                let (sender, parts) = tokio::sync::mpsc::channel(1);
                let _ = sender.try_send(Ok(body));
                DirectParts { status, headers, body: parts }
            }))
        })
    }
    fn logs_after(&self, number: u64, _: Option<String>, _: Option<String>) -> Answer<'_, Vec<LogLine>> {
        let line = |number| LogLine {
            number,
            time_ms: 0,
            app: "shop".to_owned(),
            function: "hello".to_owned(),
            holder: 1,
            level: "info".to_owned(),
            invocation: None,
            trace: None,
            span: None,
            message: "hello".to_owned(),
        };
        ready((number + 1..=3).map(line).collect())
    }
}
