//! A node with two apps: the villain's, and its neighbour's.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use baton_catalog::Manifest;
use baton_flow::status::PoolStatus;
use baton_flow::{AppSpec, DirectCall, DirectReply, Flow, InvokeError, Options};

/// No test takes longer; a node that hangs is found by this.
const TEST_TIME: Duration = Duration::from_secs(20);
/// How long the neighbour may wait for an answer, on a machine that is busy with other things.
const NEIGHBOUR_TIME: Duration = Duration::from_millis(1500);
/// How long the buffers of a dead replica may take to come back.
const SETTLE_TIME: Duration = Duration::from_secs(6);

/// The directory with `villain`, `echo` and `caller`, built once a test process.
fn guests() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| crate::workspace::build("villain"))
}

/// What becomes of the villain's calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// Each of three fails as a bad reply; after the third the replica is killed.
    Bad,
    /// Each fails as a bad reply; it is not killed, because it sends good descriptors in between.
    BadOnce,
    /// The replica dies, for a reason that says this.
    Dies(&'static str),
    /// The replica dies.
    Down,
    /// Nobody answers in time.
    Late,
    /// They are answered.
    Fine,
    /// The first one is answered.
    FineOnce,
    /// They fail in the function's own words, of which no more than a few are kept.
    Function,
    /// Either.
    Any,
}

/// The manifest of an app of the villain alone.
pub(crate) fn alone(attack: &str) -> String {
    format!(
        r#"
        [app]
        name = "lair"
        [pool]
        size = "8MiB"
        [functions.villain]
        artifact = "villain"
        isolation = "process"
        args = ["{attack}"]
        timeout = "300ms"
        scale = {{ min = 1, max = 1, concurrency = 4 }}
        "#
    )
}

const NEIGHBOUR: &str = r#"
    [app]
    name = "neighbour"
    [pool]
    size = "4MiB"
    [functions.echo]
    artifact = "echo"
    isolation = "process"
    timeout = "5s"
    scale = { min = 1, max = 1, concurrency = 4 }
"#;

/// The node.
pub(crate) struct Stage {
    pub(crate) flow: Flow,
    calls: Rc<Cell<u32>>,
    worst: Rc<Cell<Duration>>,
    over: Rc<Cell<bool>>,
}

/// Runs a test on a data-plane thread of its own. A data plane that hangs fails the test.
pub(crate) fn on_stage<F: Future<Output = ()>>(test: impl FnOnce(Rc<Stage>) -> F + Send + 'static) {
    guests();
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let stage = Rc::new(Stage::open().await);
            let neighbour = tokio::task::spawn_local(Rc::clone(&stage).neighbour());
            test(Rc::clone(&stage)).await;
            stage.over.set(true);
            neighbour.await.unwrap();
            stage.flow.stop().await;
        });
        let _ = done.send(());
    });
    match ended.recv_timeout(TEST_TIME) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the data plane hangs"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

pub(crate) fn spec(text: &str) -> AppSpec {
    let manifest = Manifest::parse(text, Path::new("baton.toml")).unwrap();
    let artifact = |function: &baton_catalog::Function| match &function.build {
        baton_catalog::Build::Artifact { path } => guests().join(path),
        other => panic!("{other:?}"),
    };
    let artifacts: BTreeMap<_, _> =
        manifest.functions.iter().map(|(name, function)| (name.clone(), artifact(function))).collect();
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
    async fn open() -> Stage {
        let flow = Flow::new(Options::default());
        flow.deploy(spec(NEIGHBOUR)).await.unwrap();
        Stage { flow, calls: Rc::default(), worst: Rc::default(), over: Rc::default() }
    }

    /// Calls the neighbour all the time: every answer is right and in time.
    async fn neighbour(self: Rc<Self>) {
        while !self.over.get() {
            let number = self.calls.get();
            let body = format!("neighbour {number}").into_bytes();
            let started = Instant::now();
            let call = DirectCall {
                method: "POST".into(),
                path: "/".into(),
                body: body.clone(),
                ..DirectCall::default()
            };
            let reply = self.flow.invoke("neighbour", "echo", call).await;
            assert_eq!(reply.map(|reply| reply.body), Ok(body), "the neighbour suffers");
            self.worst.set(self.worst.get().max(started.elapsed()));
            self.calls.set(number + 1);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let worst = self.worst.get();
        println!("the neighbour was answered {} times, {worst:?} at worst", self.calls.get());
        assert!(self.calls.get() > 0);
        assert!(worst < NEIGHBOUR_TIME, "the neighbour waited for {worst:?}");
    }

    /// Calls a function of the villain's app.
    pub(crate) async fn call(&self, function: &str, path: &str) -> Result<DirectReply, InvokeError> {
        let body = b"a request of some bytes".to_vec();
        let call = DirectCall { method: "POST".into(), path: path.into(), body, ..DirectCall::default() };
        let answer = self.flow.invoke("lair", function, call);
        tokio::time::timeout(Duration::from_secs(8), answer).await.expect("a call hangs")
    }

    /// Processes of the villain's app, by function. 0: none at the moment.
    pub(crate) fn pids(&self, function: &str) -> Vec<u32> {
        let status = self.flow.status();
        let functions = status.iter().filter(|app| app.app == "lair").flat_map(|app| &app.functions);
        let replicas = functions.filter(|state| state.function == function).flat_map(|state| &state.replicas);
        replicas.map(|replica| replica.pid).collect()
    }

    /// How often replicas of a function were replaced.
    pub(crate) fn restarts(&self, function: &str) -> u32 {
        let status = self.flow.status();
        let functions = status.iter().filter(|app| app.app == "lair").flat_map(|app| &app.functions);
        let replicas = functions.filter(|state| state.function == function).flat_map(|state| &state.replicas);
        replicas.map(|replica| replica.restarts).max().unwrap_or(0)
    }

    /// Waits until a function has its replicas.
    pub(crate) async fn up(&self, function: &str) {
        let ready = || {
            let status = self.flow.status();
            let functions = status.iter().filter(|app| app.app == "lair").flat_map(|app| &app.functions);
            let mut of_it =
                functions.filter(|state| state.function == function).flat_map(|state| &state.replicas);
            of_it.all(|replica| replica.state == "ready")
        };
        self.until("the function does not come back", ready).await;
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, complaint: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            if started.elapsed() > SETTLE_TIME {
                let pool = self.flow.pool("lair");
                let rows = self.flow.capabilities(Some("lair"));
                let logs: Vec<String> = self
                    .flow
                    .logs_after(0, Some("lair"), None)
                    .iter()
                    .map(|line| line.message.clone())
                    .collect();
                panic!(
                    "{complaint}\n{pool:?}\n{:#?}\n{:#?}",
                    rows.get(..rows.len().min(9)),
                    logs.get(..logs.len().min(20))
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Kills a process that the node of this test started.
    pub(crate) fn kill(pid: u32) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Ends all replicas of the villain's app: every buffer is back then. And removes the app.
    pub(crate) async fn settle(&self, functions: &[&str]) {
        for function in functions {
            self.pids(function).into_iter().filter(|pid| *pid != 0).for_each(Stage::kill);
        }
        let whole = |pool: PoolStatus| {
            pool.buffers_in_use == 0
                && pool.orphans == 0
                && pool.buffers_out == 0
                && pool.free_bytes == pool.pool_bytes
        };
        self.until("buffers do not come back", || self.flow.pool("lair").is_some_and(whole)).await;
        let removed = tokio::time::timeout(Duration::from_secs(4), self.flow.remove("lair")).await;
        assert_eq!(removed, Ok(true), "the app cannot be removed");
    }

    /// Asserts what becomes of one call.
    pub(crate) fn check(expect: Expect, reply: &Result<DirectReply, InvokeError>) {
        let fits = match (expect, reply) {
            (Expect::Bad | Expect::BadOnce, Err(InvokeError::BadReply { .. }))
            | (Expect::Any, _)
            | (Expect::Fine | Expect::FineOnce, Ok(_)) => true,
            (Expect::Dies(why), Err(InvokeError::ReplicaDied { how, .. })) => how.contains(why),
            (Expect::Down, Err(InvokeError::ReplicaDied { .. })) => true,
            (Expect::Late, Err(InvokeError::DeadlineExceeded { .. })) => true,
            (Expect::Function, Err(InvokeError::Function { message, .. })) => message.len() < 64 * 1024,
            _ => false,
        };
        let reply = reply.as_ref().map(|reply| (reply.status, reply.body.len()));
        assert!(fits, "expected {expect:?}, got {reply:?}");
    }
}

/// Lets the villain lie three times, and sees what it got by it.
pub(crate) fn strike(attack: &'static str, expect: Expect) {
    strike_in(attack, &alone(attack), expect);
}

/// The same in an app of the test's own.
pub(crate) fn strike_in(attack: &'static str, app: &str, expect: Expect) {
    let app = app.to_owned();
    on_stage(async move |stage| {
        stage.flow.record(true);
        stage.flow.deploy(spec(&app)).await.unwrap();
        let slow = matches!(expect, Expect::Any | Expect::Late) || attack.ends_with("flood");
        let once = slow || matches!(expect, Expect::FineOnce);
        for _ in 0..if once { 1 } else { 3 } {
            stage.up("villain").await;
            let started = Instant::now();
            let reply = stage.call("villain", "/").await;
            println!(
                "{attack}: {:?} after {:?}",
                reply.as_ref().map(|reply| reply.status),
                started.elapsed()
            );
            Stage::check(expect, &reply);
        }
        if slow {
            // Floods go on behind the answer.
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        if matches!(expect, Expect::Bad) {
            stage.until("it was not killed for three lies", || stage.restarts("villain") > 0).await;
        }
        stage.settle(&["villain"]).await;
    });
}
