//! Every part of a node, put together: the only file that knows them all.
//!
//! ```text
//!   main thread          signals, watching over the other two
//!   baton-data           Gateway ─▶ Flow ─▶ replicas            one thread, a LocalSet
//!   baton-network        connections of outgoing requests       from the first one on
//!   baton-control        admin API ─▶ Deployer ─▶ PlaneHandle ─▶ the data thread's inbox
//!                        Cluster ◀─▶ NATS, where the node is one of several
//! ```
//!
//! A panic in one of the threads, a task's included, brings the node down: what is left would only look alive.

mod backend;
mod cloudevents;
mod cluster;
mod control;
mod dataplane;
mod figures;
mod panics;
mod sockets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use baton_catalog::AppName;
use baton_control::admin::{Api, Bounds, Node};
use baton_control::lambda::{self, Keys};
use baton_control::{
    ArtifactError, Artifacts, Cluster, Deployer, Events, Home, Modules, Programs, Restored, Store,
    StoreError, Trees, Usage, UsageError,
};
use baton_flow::{Options, PlaneHandle, Sampling, plane_channel};
use baton_gateway::{Authorities, Tls};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

pub(crate) use self::cluster::ClusterSettings;
use self::cluster::Presence;
use self::control::{ControlPlane, Doors, LambdaDoor, Observers, control_plane};
use self::dataplane::{Bound, DataPlane, data_plane};
use self::panics::{ended, panicked};
use crate::failure::Failure;
use crate::otlp::OtlpSettings;

/// How long what is in flight may take when the node goes down.
const DRAIN_TIME: Duration = Duration::from_secs(30);
const DATA_THREAD: &str = "baton-data";
const CONTROL_THREAD: &str = "baton-control";
/// Opens the store; its panics over damaged files are told as errors.
const STORE_THREAD: &str = "baton-store";

/// How a node is to be started.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where the Lambda API listens, if it does.
    pub(crate) lambda: Option<SocketAddr>,
    pub(crate) cores: Vec<usize>,
    /// How much is recorded of invocations.
    pub(crate) sampling: Sampling,
    /// Where traces and lines of functions go.
    pub(crate) otlp: Option<OtlpSettings>,
    /// Whom outgoing requests trust beside the machine's certificate authorities.
    pub(crate) authorities: Authorities,
    /// What the gateway's connections are encrypted with, if they are.
    pub(crate) tls: Option<Tls>,
    pub(crate) insecure_no_sandbox: bool,
    /// How the node is one of several, if it is.
    pub(crate) cluster: Option<ClusterSettings>,
    /// Stored apps that are not restored, since another version is about to be deployed.
    pub(crate) except: Vec<AppName>,
}

/// A node that runs.
pub(crate) struct Running {
    pub(crate) gateway: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) lambda: Option<SocketAddr>,
    pub(crate) token: String,
    pub(crate) root: PathBuf,
    pub(crate) restored: Vec<Restored>,
    /// The node's name in its cluster, and where other nodes reach it.
    pub(crate) seat: Option<(String, SocketAddr)>,
    /// Told when a client of the admin API asks the node to drain and end.
    pub(crate) drain: Arc<Notify>,
    orders: mpsc::Sender<Order>,
    data: JoinHandle<()>,
    data_end: oneshot::Receiver<()>,
    control: JoinHandle<()>,
    control_leave: oneshot::Sender<()>,
    control_stop: oneshot::Sender<()>,
    /// Locked until the node has ended.
    home: Home,
}

/// What the data-plane thread is told.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Take no new connections, finish what is in flight, end.
    Drain,
    /// End at once.
    Stop,
}

/// The parts that only need the state directory and addresses.
struct Foundations {
    artifacts: Artifacts,
    trees: Trees,
    modules: Modules,
    tcp: std::net::TcpListener,
    unix: std::os::unix::net::UnixListener,
    lambda: Option<std::net::TcpListener>,
}

impl Foundations {
    fn lay(home: &Home, admin: SocketAddr, lambda: Option<SocketAddr>) -> Result<Self, Failure> {
        let refused = |error: ArtifactError| Failure::failed(&error, error.hint());
        Ok(Self {
            artifacts: Artifacts::open(&home.artifacts()).map_err(refused)?,
            trees: Trees::open(&home.files()).map_err(refused)?,
            modules: Modules::open(&home.wasm(), Programs::of_this_node()).map_err(refused)?,
            tcp: sockets::tcp(admin)?,
            unix: sockets::unix(&home.socket())?,
            lambda: lambda.map(sockets::lambda).transpose()?,
        })
    }
}

/// Starts every part and restores what is stored.
pub(crate) fn start(home: Home, settings: Settings) -> Result<Running, Failure> {
    panics::watch();
    let store = open_store(&home)?;
    let foundations = Foundations::lay(&home, settings.admin, settings.lambda)?;
    let Foundations { artifacts, trees, modules, tcp, unix, lambda } = foundations;
    let (admin, lambda_address) = addresses(&tcp, lambda.as_ref())?;
    let Data { plane, orders, thread: data, end: data_end, gateway, presence, deliveries } =
        start_data(&home, &settings)?;
    let Settings { except, cluster, otlp, .. } = settings;
    let runtime = runtime(baton_replica::turns::step_back)?;
    let cluster = cluster.zip(presence.as_ref());
    let open = |options| runtime.block_on(Cluster::open(options));
    let cluster = cluster.map(|(cluster, presence)| open(cluster.options(presence, gateway))).transpose()?;
    let drain = Arc::new(Notify::new());
    let (version, started) = (env!("CARGO_PKG_VERSION"), Instant::now());
    let node = Node { version, gateway, admin, home: home.root().to_owned(), started };
    let mut deployer = Deployer::new(Arc::new(plane.clone()), store, Arc::new(artifacts), trees, modules);
    if let Some(cluster) = &cluster {
        deployer = deployer.in_cluster(Arc::clone(cluster));
    }
    let seat = cluster.as_ref().map(|cluster| (cluster.node().to_owned(), cluster.address()));
    let (observers, usage) = observe(&runtime, &plane, &home, otlp);
    let deployer = Arc::new(deployer);
    let events = open_events(&home, &plane, &deployer)?;
    let api = Arc::new(Api {
        plane: Arc::new(plane.clone()),
        deployer,
        cluster,
        events,
        token: home.token().to_owned(),
        node,
        drain: Arc::clone(&drain),
        gateway: Some(figures::of(plane.clone())),
        usage,
        bounds: Bounds::default(),
    });
    let lambda = lambda.map(|listener| lambda_door(listener, &api, &home)).transpose()?;
    let ((control_stop, stop), (control_leave, leave)) = (oneshot::channel(), oneshot::channel());
    let (restored, restoring) = sync_channel(1);
    let control = spawn(CONTROL_THREAD, move || {
        let doors = Doors { tcp, unix, lambda };
        control_plane(ControlPlane {
            runtime,
            api,
            doors,
            except,
            restored,
            leave,
            stop,
            observers,
            deliveries,
        });
    })?;
    let restored = told(&restoring, CONTROL_THREAD)?;
    Ok(Running {
        gateway,
        admin,
        lambda: lambda_address,
        token: home.token().to_owned(),
        root: home.root().to_owned(),
        restored,
        seat,
        drain,
        orders,
        data,
        data_end,
        control,
        control_leave,
        control_stop,
        home,
    })
}

/// Where clients of the control plane come in.
fn addresses(
    tcp: &std::net::TcpListener,
    lambda: Option<&std::net::TcpListener>,
) -> Result<(SocketAddr, Option<SocketAddr>), Failure> {
    Ok((sockets::address(tcp)?, lambda.map(sockets::address).transpose()?))
}

/// Starts those who write down what happens.
fn observe(
    runtime: &Runtime,
    plane: &PlaneHandle,
    home: &Home,
    otlp: Option<OtlpSettings>,
) -> (Observers, Option<Arc<Usage>>) {
    let (export_ending, ending) = oneshot::channel();
    if let Some(settings) = otlp {
        runtime.spawn(crate::otlp::export(plane.clone(), settings, ending));
    }
    let (usage_ending, ending) = oneshot::channel();
    let refused = |error: &UsageError| tracing::warn!(%error, "no accounts of usage are kept");
    let usage = Usage::open(&home.usage()).inspect_err(refused).ok().map(Arc::new);
    let keeping = usage.clone().map(|usage| runtime.spawn(usage.keep(Arc::new(plane.clone()), ending)));
    (Observers { export_ending, usage_ending, keeping }, usage)
}

/// The Lambda API at its port, over what the admin API is over.
fn lambda_door(listener: std::net::TcpListener, api: &Api, home: &Home) -> Result<LambdaDoor, StoreError> {
    let (plane, deployer) = (Arc::clone(&api.plane), Arc::clone(&api.deployer));
    let lambda = lambda::Api::open(plane, deployer, Arc::clone(&api.events), Keys::of(home.root()))?;
    Ok((listener, Arc::new(lambda)))
}

/// The data-plane thread, as the others know it.
struct Data {
    plane: PlaneHandle,
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
    end: oneshot::Receiver<()>,
    gateway: SocketAddr,
    presence: Option<Presence>,
    /// Events that come by the gateway, for the queues.
    deliveries: mpsc::Receiver<cloudevents::Delivery>,
}

fn start_data(home: &Home, settings: &Settings) -> Result<Data, Failure> {
    let endpoint = settings.cluster.as_ref().map(ClusterSettings::endpoint).transpose()?;
    let incarnation = endpoint.as_ref().map(|endpoint| endpoint.incarnation);
    let (plane, inbox) = plane_channel();
    let (orders, order_inbox) = mpsc::channel(2);
    let (bound, binding) = sync_channel(1);
    let (door, deliveries) = cloudevents::door();
    let (alive, end) = oneshot::channel();
    let options = Options {
        cores: settings.cores.clone(),
        insecure_no_sandbox: settings.insecure_no_sandbox,
        cell_program: None,
        snapshots: Some(home.snapshots()),
        spill: Some(home.spill()),
    };
    let (listen, sampling, authorities) = (settings.listen, settings.sampling, settings.authorities.clone());
    let tls = settings.tls.clone();
    let thread = spawn(DATA_THREAD, move || {
        let _alive: oneshot::Sender<()> = alive;
        let orders = order_inbox;
        data_plane(DataPlane {
            listen,
            tls,
            options,
            sampling,
            authorities,
            inbox,
            orders,
            endpoint,
            bound,
            door,
        });
    })?;
    let Bound { gateway, transfer } = told(&binding, DATA_THREAD)?;
    let presence = incarnation.zip(transfer).map(|(incarnation, address)| Presence { incarnation, address });
    Ok(Data { plane, orders, thread, end, gateway, presence, deliveries })
}

/// Waits for what a thread says of its start.
fn told<T>(receiver: &Receiver<Result<T, Failure>>, thread: &str) -> Result<T, Failure> {
    receiver.recv().unwrap_or_else(|_| Err(ended(thread)))
}

impl Running {
    /// Waits for a part of the node to fail.
    pub(crate) async fn failed(&mut self) -> Failure {
        tokio::select! {
            _ = &mut self.data_end => ended(DATA_THREAD),
            failure = panicked() => failure,
        }
    }

    /// Finishes what is in flight, unless `at_once` completes before, and ends the node.
    pub(crate) async fn end(mut self, at_once: impl Future<Output = ()>) {
        // Others turn to other nodes while this one finishes what it has. Errors here mean that a thread has ended already.
        let _ = self.control_leave.send(());
        let _ = self.orders.send(Order::Drain).await;
        tokio::select! {
            _ = &mut self.data_end => {}
            () = at_once => {
                let _ = self.orders.send(Order::Stop).await;
                let _ = timeout(Duration::from_secs(3), &mut self.data_end).await;
            }
        }
        let _ = self.control_stop.send(());
        // The end of the data thread was waited for; one that hangs is ended with the process.
        if self.data.is_finished() {
            let _ = self.data.join();
        }
        let _ = self.control.join();
        let _ = std::fs::remove_file(self.home.socket());
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| {
        Failure::failed(format_args!("cannot start thread {name}: {error}"), "raise the limit of processes")
    })
}

/// A runtime on the thread that runs it, whose threads for work that blocks (hashing, looking through executables, waiting for the
/// disk) begin with `first`.
fn runtime(first: fn()) -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_start(first).build();
    runtime.map_err(|error| {
        Failure::failed(format_args!("cannot start a runtime: {error}"), "raise the limit of open files")
    })
}

/// The events that wait, opened where a panic over a damaged file is nobody's but its own.
fn open_events(home: &Home, plane: &PlaneHandle, deployer: &Arc<Deployer>) -> Result<Arc<Events>, Failure> {
    let (path, plane, deployer) = (home.events(), Arc::new(plane.clone()), Arc::clone(deployer));
    opened(home.events(), move || Events::open(&path, plane, deployer))
}

/// The store, opened where a panic over a damaged file is nobody's but its own.
fn open_store(home: &Home) -> Result<Store, Failure> {
    let path = home.state();
    opened(home.state(), move || Store::open(&path).and_then(|store| store.all().map(|_| store)))
}

fn opened<T: Send + 'static>(
    path: PathBuf,
    open: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = sync_channel(1);
    let thread = spawn(STORE_THREAD, move || {
        // The receiver waits for it.
        let _ = sender.send(open());
    })?;
    let opened = receiver.recv();
    let _ = thread.join();
    Ok(opened.unwrap_or(Err(StoreError::Unintelligible { path }))?)
}

/// The plane's handle is all that other threads have of the data plane.
const _: fn(&PlaneHandle) = |handle| {
    fn can_be_sent(_: &(impl Send + Sync)) {}
    can_be_sent(handle);
};
