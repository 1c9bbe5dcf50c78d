//! Listening, accepting, draining.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::conn::{Desk, Order};
use crate::counters::Counters;
use crate::limits::{CUT_WAIT, DRAIN_GRACE, Limits};
use crate::seam::Backend;
use crate::session::{Protocols, serve};
use crate::tls::Tls;

const FULL_ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 55\r\n\r\n\
    too many connections are open; send the request again.\n";

/// Why the gateway cannot listen.
#[derive(Debug)]
pub enum BindError {
    /// Somebody else listens there.
    InUse {
        /// Where.
        addr: SocketAddr,
    },
    /// The system forbids it.
    Forbidden {
        /// Where.
        addr: SocketAddr,
    },
    /// The machine has no such address.
    NoSuchAddress {
        /// Where.
        addr: SocketAddr,
    },
    /// The system refuses for another reason.
    Refused {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl BindError {
    fn new(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { addr },
            io::ErrorKind::PermissionDenied => Self::Forbidden { addr },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { addr },
            _ => Self::Refused { addr, source },
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { addr } => write!(
                f,
                "another program listens on {addr}: stop it, or choose another address with --listen \
                 (port 0 takes any free one)"
            ),
            Self::Forbidden { addr } => {
                write!(f, "this user may not listen on {addr}: choose a port from 1024 up with --listen")
            }
            Self::NoSuchAddress { addr } => {
                write!(f, "this machine has no address {}: choose another with --listen", addr.ip())
            }
            Self::Refused { addr, source } => {
                write!(f, "cannot listen on {addr} ({source}): choose another address with --listen")
            }
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::InUse { .. } | Self::Forbidden { .. } | Self::NoSuchAddress { .. } => None,
        }
    }
}

/// A gateway that listens, and serves once [`Gateway::serve`] runs.
pub struct Gateway {
    listener: TcpListener,
    addr: SocketAddr,
    handle: Handle,
    tls: Option<Tls>,
}

/// Watches and ends a gateway that serves.
#[derive(Clone)]
pub struct Handle {
    desk: Rc<Desk>,
    door: Rc<Door>,
}

/// Whether new connections are taken.
struct Door {
    open: Cell<bool>,
    close: Notify,
    closed: Notify,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut since they did not end in time.
    pub cut: usize,
}

impl Gateway {
    /// Listens. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// Says why not, and what to do about it.
    pub fn bind(addr: SocketAddr, limits: Limits) -> Result<Self, BindError> {
        let listen = || {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            let listener = socket.listen(Limits::BACKLOG)?;
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        let (listener, addr) = listen().map_err(|source| BindError::new(addr, source))?;
        let door = Door { open: Cell::new(true), close: Notify::new(), closed: Notify::new() };
        Ok(Self {
            listener,
            addr,
            handle: Handle { desk: Desk::new(limits), door: Rc::new(door) },
            tls: None,
        })
    }

    /// Speaks TLS, and nothing else.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Where it listens; the real port if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The handle for counters and the drain.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until it is drained. Runs inside a [`LocalSet`](tokio::task::LocalSet).
    pub fn serve<B: Backend>(self, backend: B) -> impl Future<Output = ()> + 'static {
        let Self { listener, handle: Handle { desk, door }, tls, .. } = self;
        async move {
            let is_plain = tls.is_none();
            let protocols = Rc::new(Protocols::new(&desk.limits, tls));
            let reception = Reception { protocols, desk, backend, is_plain };
            reception.run(listener, &door).await;
        }
    }
}

struct Reception<B> {
    desk: Rc<Desk>,
    protocols: Rc<Protocols>,
    backend: B,
    is_plain: bool,
}

impl<B: Backend> Reception<B> {
    async fn run(&self, listener: TcpListener, door: &Door) {
        let mut tick = tokio::time::interval(self.desk.limits.tick());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listener = Some(listener);
        // Out of descriptors: accepting again at once would spin, so it waits for the next tick.
        let mut starved = false;
        loop {
            tokio::select! {
                accepted = accept(listener.as_ref()), if listener.is_some() && !starved => match accepted {
                    Ok(stream) => self.receive(stream),
                    Err(error) => {
                        starved = is_starved(&error);
                        tracing::warn!(%error, "a connection could not be accepted");
                    }
                },
                () = door.close.notified(), if listener.is_some() => {
                    if let Some(listener) = listener.take() {
                        self.receive_waiting(&listener).await;
                    }
                    door.open.set(false);
                    door.closed.notify_waiters();
                }
                _ = tick.tick() => {
                    starved = false;
                    self.desk.sweep();
                }
                () = self.desk.emptied.notified(), if listener.is_none() => {}
            }
            if listener.is_none() && self.desk.len() == 0 {
                return;
            }
        }
    }

    fn receive(&self, stream: TcpStream) {
        if self.desk.len() >= self.desk.limits.connections {
            self.desk.counters.refused();
            // A fresh socket takes so little at once; if not, the close says it all.
            if self.is_plain {
                let _ = stream.try_write(FULL_ANSWER);
            }
            return;
        }
        // Without it answers wait for more to send with them.
        let _ = stream.set_nodelay(true);
        let seat = self.desk.seat();
        tokio::task::spawn_local(serve(stream, seat, self.backend.clone(), self.protocols.clone()));
    }

    /// Takes the connections that the kernel has already said yes to: closing the listener would reset them.
    async fn receive_waiting(&self, listener: &TcpListener) {
        for _ in 0..Limits::BACKLOG {
            match timeout(Duration::ZERO, listener.accept()).await {
                Ok(Ok((stream, _))) => self.receive(stream),
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Whether an accept failed for want of something that only time brings; otherwise it was the one client's doing.
fn is_starved(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

impl Handle {
    /// Live counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.desk.counters
    }

    /// Stops accepting, lets what is in flight end, and cuts what has not ended in time. [`Gateway::serve`] must be
    /// running; its future ends thereby.
    ///
    /// Every answer from now on closes its connection. Idle connections are closed a moment later, so that a
    /// request that was already on its way is still answered.
    pub async fn drain(&self, time: Duration) -> Drained {
        let deadline = Instant::now() + time;
        self.desk.draining.set(true);
        self.door.close.notify_one();
        // HTTP/2 has words for it, which lose nothing.
        self.desk.order_all(Order::Finish, true);
        if timeout(time.min(DRAIN_GRACE), self.gone()).await.is_ok() {
            return Drained { cut: 0 };
        }
        self.desk.order_all(Order::Finish, false);
        if tokio::time::timeout_at(deadline, self.gone()).await.is_ok() {
            return Drained { cut: 0 };
        }
        let cut = self.desk.len();
        self.desk.order_all(Order::Cut, false);
        // Those that linger on a refused client are not in flight, and end by themselves.
        let _ = timeout(CUT_WAIT, self.gone()).await;
        Drained { cut }
    }

    async fn gone(&self) {
        while self.door.open.get() {
            self.door.closed.notified().await;
        }
        while self.desk.len() > 0 {
            self.desk.emptied.notified().await;
        }
    }
}
