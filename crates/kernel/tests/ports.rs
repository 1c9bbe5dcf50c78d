//! Traffic to ports that were not declared, in a network of its own. Skipped loudly where it cannot be.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use baton_kernel::{PortCounts, Ports, Traffic, Undeclared};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a connection that is dropped is waited for.
const SHORT: Duration = Duration::from_millis(300);
/// How long one that passes may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network with its loopback device up, kept by a process that sleeps.
struct Network {
    child: Child,
    file: File,
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn network() -> Option<Network> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            println!("SKIP: no network of its own can be made (unshare: {error}); ports are not tested");
            return None;
        }
    };
    let mut said = [0; 3];
    if child.stdout.take().unwrap().read_exact(&mut said).is_err() {
        println!("SKIP: no network of its own can be made (unshare, ip); ports are not tested");
        let _ = child.wait();
        return None;
    }
    let file = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
    Some(Network { child, file })
}

impl Network {
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Whether a connection to a listener at `address` comes about and carries a byte there and back.
    fn talks(&self, address: &str, patience: Duration) -> bool {
        let address: SocketAddr = address.parse().unwrap();
        self.within(|| {
            let listener = TcpListener::bind(address).unwrap();
            let Ok(mut client) = TcpStream::connect_timeout(&address, patience) else { return false };
            let (mut server, _) = listener.accept().unwrap();
            let mut byte = [7];
            client.write_all(&byte).unwrap();
            server.read_exact(&mut byte).unwrap();
            server.write_all(&byte).unwrap();
            client.read_exact(&mut byte).unwrap();
            true
        })
    }

    fn declare(&self, ports: &[u16], undeclared: Undeclared) -> Option<Ports> {
        match Ports::declare(self.file.as_fd(), ports, undeclared) {
            Ok(ports) => Some(ports),
            Err(error) => {
                println!("SKIP: ports cannot be declared here: {error}");
                None
            }
        }
    }
}

fn of(counts: &PortCounts, port: u16) -> Traffic {
    counts.by_port.iter().find(|(one, _)| *one == port).map_or(Traffic::default(), |(_, traffic)| *traffic)
}

#[test]
fn undeclared_ports_are_counted_and_pass_where_nothing_is_dropped() {
    let Some(network) = network() else { return };
    let Some(ports) = network.declare(&[8000], Undeclared::Count) else { return };
    assert!(network.talks("127.0.0.1:8000", PATIENCE));
    let counts = ports.counts().unwrap();
    assert!(counts.passed.packets >= 7 && counts.passed.bytes > 7 * 54, "{counts:?}");
    assert_eq!((counts.undeclared, counts.by_port.len()), (Traffic::default(), 0));
    assert!(network.talks("127.0.0.1:8001", PATIENCE) && network.talks("[::1]:8001", PATIENCE));
    let counts = ports.counts().unwrap();
    assert!(counts.undeclared.packets >= 14, "{counts:?}");
    assert_eq!(counts.by_port, [(8001, counts.undeclared)]);
}

#[test]
fn undeclared_ports_are_dropped_where_that_is_said() {
    let Some(network) = network() else { return };
    let Some(ports) = network.declare(&[8000, 65_535], Undeclared::Drop) else { return };
    for address in ["127.0.0.1:8000", "[::1]:8000", "127.9.9.9:65535"] {
        assert!(network.talks(address, PATIENCE), "{address}");
    }
    assert_eq!(ports.counts().unwrap().undeclared, Traffic::default());
    for address in ["127.0.0.1:8001", "[::1]:8002"] {
        assert!(!network.talks(address, SHORT), "{address}");
    }
    let counts = ports.counts().unwrap();
    assert!(of(&counts, 8001).packets >= 1 && of(&counts, 8002).packets >= 1, "{counts:?}");
    let datagrams = |port: u16| {
        network.within(|| {
            let to = UdpSocket::bind(("127.0.0.1", port)).unwrap();
            to.set_read_timeout(Some(SHORT)).unwrap();
            let from = UdpSocket::bind("127.0.0.1:0").unwrap();
            from.send_to(b"x", ("127.0.0.1", port)).unwrap();
            to.recv(&mut [0; 8]).map_err(|error| error.kind())
        })
    };
    assert_eq!(datagrams(8000), Ok(1));
    assert_eq!(datagrams(8003), Err(io::ErrorKind::WouldBlock));
    assert_eq!(of(&ports.counts().unwrap(), 8003), Traffic { packets: 1, bytes: 43 });
    // With the declaration goes the program.
    drop(ports);
    assert!(network.talks("127.0.0.1:8001", PATIENCE));
}

#[test]
fn the_first_ports_are_named_and_the_rest_is_counted_together() {
    let Some(network) = network() else { return };
    let Some(ports) = network.declare(&[], Undeclared::Drop) else { return };
    network.within(|| {
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 100..140u16 {
            from.send_to(b"x", ("127.0.0.1", port)).unwrap();
        }
    });
    let counts = ports.counts().unwrap();
    assert_eq!((counts.undeclared.packets, counts.by_port.len()), (40, 16));
    assert!(counts.by_port.iter().all(|(_, traffic)| traffic.packets == 1));
}
