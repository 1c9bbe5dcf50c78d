//! A network with nothing but a loopback device, for the sockets of one app.
//!
//! A hostile replica can disconnect its socket and connect it anew: in here that reaches nothing but the sockets of its own app.
//! Ports are the app's own as well.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;

use rustix::net::sockopt;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys;

/// Room for what is refused and not read yet, bytes, at each end of a pair: a replica that sends more waits.
const REFUSED_BYTES: usize = 64 * 1024;
/// Strangers that may knock at a listener before it is given up.
const STRANGERS_MAX: u32 = 16;

/// The network of one app.
#[derive(Debug)]
pub(crate) struct Network {
    namespace: OwnedFd,
}

/// Two ends of one connection.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The end that goes into the sockmap.
    pub(crate) near: OwnedFd,
    /// The end that refused packets come to.
    pub(crate) far: OwnedFd,
}

impl Network {
    pub(crate) fn new() -> io::Result<Network> {
        let namespace = apart(|| {
            sys::leave_network()?;
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
            sys::start_loopback(socket.as_fd())?;
            Ok(OwnedFd::from(File::open("/proc/thread-self/ns/net")?))
        })?;
        Ok(Network { namespace })
    }

    /// A connection between two sockets in this network.
    pub(crate) fn pair(&self) -> io::Result<Pair> {
        apart(|| {
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            connect()
        })
    }
}

/// Runs `work` on a thread of its own, so that this one stays in its network.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("baton-network-of-app".into()).spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes sockets panicked")))
    })
}

fn connect() -> io::Result<Pair> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let own = near.local_addr()?;
    for _ in 0..STRANGERS_MAX {
        // Whoever else is in this network may connect too; such a connection ends here.
        let (far, from) = listener.accept()?;
        if from == own {
            return settle(near, far);
        }
    }
    Err(io::Error::other("strangers connect to the listener of a replica's socket"))
}

fn settle(near: TcpStream, far: TcpStream) -> io::Result<Pair> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    sockopt::set_socket_send_buffer_size(&near, REFUSED_BYTES)?;
    sockopt::set_socket_recv_buffer_size(&far, REFUSED_BYTES)?;
    // Urgent data stays where it was written, so that a stream of packets remains one.
    sockopt::set_socket_oobinline(&far, true)?;
    Ok(Pair { near: near.into(), far: far.into() })
}
