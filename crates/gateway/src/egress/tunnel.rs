//! Doors of replicas: what is accepted there goes out to where the manifest allows, byte by byte.
//!
//! A peer inside a replica is not trusted with anything: where a door leads is the node's own knowledge, what a proxy is asked for
//! is checked against `network` by name and port, and each connection has bounds: how many there are, how long one may take to open
//! and to be silent, how much is buffered.

mod pipe;
mod proxy;

use std::sync::Arc;
use std::time::Duration;

use baton_catalog::connects;
use baton_flow::{CONNECTIONS_MAX, Door, Doors, Leads, Told, Tunnels};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Egress;

/// Time until a connection is open, the look-up of its name included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after a failure to accept, as when no descriptors are left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What all connections of a replica share.
#[derive(Debug)]
struct Rules {
    network: Vec<String>,
    places: Arc<Semaphore>,
    told: mpsc::Sender<Told>,
}

/// Why there is no connection.
#[derive(Debug)]
enum Refused {
    Denied,
    Failed(String),
}

/// Ends the doors, and all that goes through them, when it is dropped.
struct Open(tokio::task::AbortHandle);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Egress {
    /// What the flow is to be given for programs that open connections themselves.
    #[must_use]
    pub fn tunnels(self: &std::rc::Rc<Self>) -> Tunnels {
        let egress = std::rc::Rc::clone(self);
        std::rc::Rc::new(move |doors| match egress.network() {
            Ok(network) => Box::new(Open(network.spawn(serve(doors)).abort_handle())),
            // Said already; the program finds that nobody accepts.
            Err(_) => Box::new(()),
        })
    }
}

/// Accepts at all doors, until it is aborted.
async fn serve(doors: Doors) {
    let Doors { network, doors, told, .. } = doors;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let rules = Arc::new(Rules { network, places, told });
    // What is in the set ends with it.
    let mut accepting = JoinSet::new();
    for Door { listener, to } in doors {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                accepting.spawn(accept(listener, to, Arc::clone(&rules)));
            }
            Err(error) => tracing::error!(%error, "a door of a replica cannot be watched"),
        }
    }
    while accepting.join_next().await.is_some() {}
}

async fn accept(listener: TcpListener, to: Leads, rules: Arc<Rules>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((inside, _)) = accepted else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let Ok(place) = Arc::clone(&rules.places).try_acquire_owned() else {
            rules.tell(Told::Crowded);
            continue;
        };
        let _ = inside.set_nodelay(true);
        connections.spawn(lead(inside, to.clone(), Arc::clone(&rules), place));
    }
}

/// One connection from its start to its end.
async fn lead(inside: TcpStream, to: Leads, rules: Arc<Rules>, _place: OwnedSemaphorePermit) {
    match to {
        Leads::Proxy => proxy::serve(inside, rules).await,
        Leads::To(host, port) => {
            // The inside learns of a failure by the end of its connection.
            if let Ok(outside) = rules.connect(&host, port).await {
                pipe::both(inside, outside).await;
            }
        }
    }
}

impl Rules {
    /// What is not heard is not waited for.
    fn tell(&self, told: Told) {
        let _ = self.told.try_send(told);
    }

    /// A connection to what the manifest names.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Refused> {
        let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        if !connects(&self.network, host, port) {
            self.tell(Told::Denied { host: name });
            return Err(Refused::Denied);
        }
        let why = match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
            Ok(Ok(outside)) => {
                let _ = outside.set_nodelay(true);
                self.tell(Told::Opened);
                return Ok(outside);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {CONNECT_TIMEOUT:?}"),
        };
        self.tell(Told::Failed { host: name, why: why.clone() });
        Err(Refused::Failed(why))
    }
}

#[cfg(test)]
mod tests;
