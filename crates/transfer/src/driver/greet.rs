//! From a TCP connection to a lane: TLS, and a hello both ways.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use rustls::Connection;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pipe::Pipe;
use super::{Peer, Shared};
use crate::counts::Counted;
use crate::limits::CONNECT_WITHIN;
use crate::security::{self, SecurityError};
use crate::wire::hello::{Hello, Lane, PROTOCOL, Rejection};
use crate::wire::{HEADER, Header, Kind, Road, WireError};

/// Why a connection does not become a lane.
#[derive(Debug)]
pub(crate) enum GreetError {
    /// No connection, or it broke.
    Io(io::Error),
    /// It took too long.
    Late,
    /// TLS: not signed by the cluster, expired, another's name.
    Untrusted(String),
    /// This side cannot, or may not.
    Security(SecurityError),
    /// The peer sent what is no hello.
    Wire(WireError),
    /// The peer does not want this node.
    Refused(Rejection),
    /// This node does not want the peer.
    Refuse(Rejection),
}

impl fmt::Display for GreetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GreetError::Io(error) => write!(f, "no connection: {error}"),
            GreetError::Late => f.write_str("the node did not answer in time"),
            GreetError::Untrusted(why) => {
                write!(
                    f,
                    "the certificates do not convince: {why}; all nodes need certificates of one authority, each with the node's name as a DNS name"
                )
            }
            GreetError::Security(error) => error.fmt(f),
            GreetError::Wire(error) => write!(f, "what answered is no node: {error}"),
            GreetError::Refused(why) => write!(f, "refused by the node: {why}"),
            GreetError::Refuse(why) => write!(f, "refused here: {why}"),
        }
    }
}

impl From<io::Error> for GreetError {
    fn from(error: io::Error) -> GreetError {
        // TLS says its errors through those of the socket.
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => GreetError::Untrusted(tls.to_string()),
            None => GreetError::Io(error),
        }
    }
}

impl From<WireError> for GreetError {
    fn from(error: WireError) -> GreetError {
        GreetError::Wire(error)
    }
}

impl GreetError {
    fn counted(&self) -> Option<Counted> {
        match self {
            GreetError::Io(_) | GreetError::Security(_) => None,
            GreetError::Late => Some(Counted::TurnedAway),
            GreetError::Untrusted(_) => Some(Counted::Untrusted),
            GreetError::Wire(_) => Some(Counted::Violations),
            GreetError::Refused(_) | GreetError::Refuse(_) => Some(Counted::Strangers),
        }
    }
}

/// Dials `peer` for a lane.
pub(crate) async fn dial(shared: &Shared, peer: &Peer, lane: Lane) -> Result<Pipe, GreetError> {
    let outcome = async {
        shared.secured.allows(peer.address).map_err(GreetError::Security)?;
        let tcp = timeout(CONNECT_WITHIN, TcpStream::connect(peer.address)).await;
        let tcp = tcp.map_err(|_| GreetError::Late)??;
        let tls = shared.secured.to(&peer.name).map_err(GreetError::Security)?;
        let greeting = greet_callee(shared, tcp, tls, (peer, lane));
        timeout(shared.limits().greet_within, greeting).await.map_err(|_| GreetError::Late)?
    };
    count(shared, outcome.await)
}

/// Takes in who connected.
pub(crate) async fn admit(
    shared: &Shared,
    tcp: TcpStream,
    from: SocketAddr,
) -> Result<(Pipe, Peer, Lane), GreetError> {
    let outcome = async {
        shared.secured.allows(from).map_err(GreetError::Security)?;
        let tls = shared.secured.from().map_err(GreetError::Security)?;
        let greeting = greet_caller(shared, tcp, tls);
        timeout(shared.limits().greet_within, greeting).await.map_err(|_| GreetError::Late)?
    };
    count(shared, outcome.await)
}

fn count<T>(shared: &Shared, outcome: Result<T, GreetError>) -> Result<T, GreetError> {
    match &outcome {
        Ok(_) => shared.counters.one(Counted::Connections),
        Err(error) => error.counted().into_iter().for_each(|counted| shared.counters.one(counted)),
    }
    outcome
}

fn hello(shared: &Shared, lane: Lane) -> Hello {
    let super::Settings { cluster, node, incarnation, .. } = &shared.settings;
    let (cluster, node, incarnation) = (cluster.clone(), node.clone(), *incarnation);
    Hello { protocol: PROTOCOL, lane, cluster, node, incarnation, machine: shared.machine }
}

async fn greet_callee(
    shared: &Shared,
    tcp: TcpStream,
    tls: Option<Box<Connection>>,
    (peer, lane): (&Peer, Lane),
) -> Result<Pipe, GreetError> {
    let mut pipe = Pipe::new(tcp, tls)?;
    poll_fn(|cx| pipe.poll_handshake(cx)).await?;
    let mut out = Vec::new();
    hello(shared, lane).encode(&mut out);
    write_all(&mut pipe, &out).await?;
    let theirs = read_hello(&mut pipe).await?;
    judge(shared, &theirs, peer).map_err(GreetError::Refuse)?;
    if theirs.lane != lane {
        return Err(GreetError::Wire(WireError::Field("lane")));
    }
    shared.note_machine(peer, theirs.machine);
    Ok(pipe)
}

async fn greet_caller(
    shared: &Shared,
    tcp: TcpStream,
    tls: Option<Box<Connection>>,
) -> Result<(Pipe, Peer, Lane), GreetError> {
    let mut pipe = Pipe::new(tcp, tls)?;
    poll_fn(|cx| pipe.poll_handshake(cx)).await?;
    let theirs = read_hello(&mut pipe).await?;
    let known = shared.peer(&theirs.node).ok_or(Rejection::Unknown);
    let shown = pipe.tls().is_none_or(|tls| security::names(tls, &theirs.node));
    // What is not proved is not looked up: who shows another's certificate learns nothing about members.
    let verdict = match (shown, known) {
        (false, _) => Err(Rejection::Identity),
        (true, known) => known.and_then(|peer| judge(shared, &theirs, &peer).map(|()| peer)),
    };
    let mut out = Vec::new();
    match verdict {
        Ok(peer) => {
            shared.note_machine(&peer, theirs.machine);
            hello(shared, theirs.lane).encode(&mut out);
            write_all(&mut pipe, &out).await?;
            Ok((pipe, peer, theirs.lane))
        }
        Err(why) => {
            why.encode(&mut out);
            write_all(&mut pipe, &out).await?;
            Err(if why == Rejection::Identity && pipe.tls().is_some() {
                GreetError::Untrusted(format!("the certificate does not name `{}`", theirs.node))
            } else {
                GreetError::Refuse(why)
            })
        }
    }
}

fn judge(shared: &Shared, theirs: &Hello, peer: &Peer) -> Result<(), Rejection> {
    let checks = [
        (theirs.protocol == PROTOCOL, Rejection::Protocol),
        (theirs.cluster == shared.settings.cluster, Rejection::Cluster),
        (theirs.node == peer.name, Rejection::Identity),
        (theirs.incarnation == peer.incarnation, Rejection::Incarnation),
    ];
    checks.into_iter().find(|(good, _)| !good).map_or(Ok(()), |(_, why)| Err(why))
}

async fn write_all(pipe: &mut Pipe, bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        let taken = poll_fn(|cx| pipe.poll_write(cx, left)).await?;
        left = left.get(taken..).unwrap_or_default();
    }
    poll_fn(|cx| pipe.poll_flush(cx)).await
}

async fn read_exact(pipe: &mut Pipe, out: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < out.len() {
        let taken = poll_fn(|cx| pipe.poll_read(cx, out.get_mut(at..).unwrap_or_default())).await?;
        if taken == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += taken;
    }
    Ok(())
}

/// Reads a hello and not a byte more.
async fn read_hello(pipe: &mut Pipe) -> Result<Hello, GreetError> {
    let mut header = [0; HEADER];
    read_exact(pipe, &mut header).await?;
    let header = Header::parse(&header, Road::Greeting)?;
    let mut body = vec![0; header.len as usize];
    read_exact(pipe, &mut body).await?;
    match header.kind {
        Kind::Refuse => Err(GreetError::Refused(Rejection::decode(&body)?)),
        _ => Ok(Hello::decode(&body)?),
    }
}
