//! A node whose cells run the stand-in of `e2e/stub-cell`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use baton_catalog::Manifest;
use baton_flow::status::{FunctionStatus, LogLine};
use baton_flow::{AppSpec, DeployError, Deployed, DirectCall, DirectReply, Flow, InvokeError, Options};

/// No test takes longer; a node that hangs is found by this.
const TEST_TIME: Duration = Duration::from_secs(25);
/// How long anything that a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// The stand-in, built once a test process.
pub(crate) fn stub() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| crate::workspace::build("stub-cell").join("baton-stub-cell"))
}

/// A node.
pub(crate) struct Stage {
    pub(crate) flow: Flow,
}

/// Runs a test on a data-plane thread of its own. A data plane that hangs fails the test.
pub(crate) fn on_stage<F: Future<Output = ()>>(test: impl FnOnce(Rc<Stage>) -> F + Send + 'static) {
    on_stage_with(None, test);
}

/// As [`on_stage`], on a node that stores snapshots.
pub(crate) fn on_stage_with<F: Future<Output = ()>>(
    snapshots: Option<PathBuf>,
    test: impl FnOnce(Rc<Stage>) -> F + Send + 'static,
) {
    let missing = baton_replica::probe::missing_for_cells();
    if !missing.is_empty() {
        println!("SKIP: cells need {missing:?}");
        return;
    }
    let cell_program = Some(stub().to_owned());
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let flow = Flow::new(Options { cell_program, snapshots, ..Options::default() });
            let stage = Rc::new(Stage { flow });
            test(Rc::clone(&stage)).await;
            stage.flow.stop().await;
        });
        let _ = done.send(());
    });
    match ended.recv_timeout(TEST_TIME) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the data plane hangs"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// An app of compartments: name, the stand-in's word, more lines of the manifest.
pub(crate) fn app(functions: &[(&str, &str, &str)]) -> AppSpec {
    let mut text = "[app]\nname = \"shop\"\n[pool]\nsize = \"4MiB\"\n".to_owned();
    for (name, word, more) in functions {
        write!(
            text,
            "[functions.{name}]\nartifact = \"f\"\nisolation = \"compartment\"\nargs = [\"{word}\"]\n{more}\n"
        )
        .unwrap();
    }
    let manifest = Manifest::parse(&text, Path::new("baton.toml")).unwrap();
    // Which file it is does not matter to the stand-in.
    let artifacts = manifest.functions.keys().map(|name| (name.clone(), stub().to_owned())).collect();
    AppSpec {
        manifest,
        version: 1,
        artifacts,
        hosts: BTreeMap::new(),
        patches: BTreeMap::new(),
        files: BTreeMap::new(),
        secrets: BTreeMap::new(),
        here: None,
    }
}

impl Stage {
    pub(crate) async fn deploy(&self, functions: &[(&str, &str, &str)]) -> Result<Deployed, DeployError> {
        self.flow.deploy(app(functions)).await
    }

    pub(crate) async fn call(&self, function: &str) -> Result<DirectReply, InvokeError> {
        let call = DirectCall { method: "GET".into(), path: "/".into(), ..DirectCall::default() };
        let answer = self.flow.invoke("shop", function, call);
        tokio::time::timeout(PATIENCE, answer).await.expect("a call hangs")
    }

    /// Calls a function and expects its name.
    pub(crate) async fn expect_echo(&self, function: &str) {
        let reply = self.call(function).await.map(|reply| reply.body);
        let name = format!("{function:<8}");
        assert_eq!(reply.as_deref(), Ok(&name.as_bytes()[..8]));
    }

    pub(crate) fn function(&self, name: &str) -> FunctionStatus {
        let status = self.flow.status();
        let mut functions = status.into_iter().flat_map(|app| app.functions);
        functions.find(|function| function.function == name).unwrap()
    }

    /// Processes of a function's replicas.
    pub(crate) fn pids(&self, function: &str) -> Vec<u32> {
        self.function(function).replicas.iter().map(|replica| replica.pid).collect()
    }

    pub(crate) fn restarts(&self, function: &str) -> u32 {
        self.function(function).replicas.iter().map(|replica| replica.restarts).max().unwrap_or(0)
    }

    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.flow.logs_after(0, Some("shop"), None)
    }

    pub(crate) fn said(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.message.contains(text)).count()
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < PATIENCE, "{what}\n{:#?}", self.lines());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every replica of a function is ready.
    pub(crate) async fn up(&self, name: &str) {
        let ready = || self.function(name).replicas.iter().all(|replica| replica.state == "ready");
        self.until("it does not come up", ready).await;
    }

    /// Every buffer is back.
    pub(crate) async fn settled(&self) {
        let whole = || self.flow.pool("shop").is_some_and(|pool| pool.buffers_out == 0 && pool.orphans == 0);
        self.until("buffers do not come back", whole).await;
    }
}

/// Whether a process runs.
pub(crate) fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// The process that forked another.
pub(crate) fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Kills one process.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
