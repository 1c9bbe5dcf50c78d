//! A hand-over through the kernel, there and back, beside a ping-pong of 64 bytes over a Unix socket, between two processes.
//!
//! `cargo run --release --package baton-kernel --example hop`: rounds of both in turn, on one core and on two; prints medians.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use baton_abi::packet::{Op, PACKET_BYTES, Packet};
use baton_abi::{Descriptor, Extent, Kind};
use baton_kernel::{Plane, Seat, Setup, probe};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::{CpuSet, sched_setaffinity};

const ROUNDS: usize = 9;
const HOPS: u32 = 10_000;

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
}

fn bytes_of(packet: &Packet) -> [u8; PACKET_BYTES] {
    let mut bytes = [0; PACKET_BYTES];
    for (to, word) in bytes.chunks_exact_mut(8).zip(packet.to_words()) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn packet(kind: Kind) -> [u8; PACKET_BYTES] {
    let body = Extent { handle: 0, generation: 1, offset: 128, len: 64 };
    bytes_of(&Packet { written: 192, ..Packet::new(Op::Send, Descriptor { body, ..Descriptor::new(kind) }) })
}

/// Reads `like` and answers `like`, until the other end is closed.
fn echo(socket: BorrowedFd<'_>, like: &[u8]) {
    let mut bytes = [0; PACKET_BYTES];
    while let Ok((1.., _)) = recv(socket, &mut bytes, RecvFlags::empty()) {
        if send(socket, like, SendFlags::NOSIGNAL) != Ok(like.len()) {
            break;
        }
    }
}

fn child(mode: &str, core: usize, socket: OwnedFd) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(mode).arg(core.to_string()).stdin(Stdio::from(socket)).spawn().unwrap()
}

/// Nanoseconds of one round trip.
fn measure(socket: BorrowedFd<'_>, like: &[u8]) -> u64 {
    let mut bytes = [0; PACKET_BYTES];
    let began = Instant::now();
    for _ in 0..HOPS {
        assert_eq!(send(socket, like, SendFlags::NOSIGNAL), Ok(like.len()));
        assert!(matches!(recv(socket, &mut bytes, RecvFlags::empty()), Ok((read, _)) if read == like.len()));
    }
    u64::try_from(began.elapsed().as_nanos()).unwrap() / u64::from(HOPS)
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, mode, core] = arguments.as_slice() {
        pin(core.parse().unwrap());
        let stdin = std::io::stdin();
        match mode.as_str() {
            "unix" => echo(stdin.as_fd(), &[7; 64]),
            _ => echo(stdin.as_fd(), &packet(Kind::Reply)),
        }
        return;
    }
    if let Err(why) = probe() {
        println!("SKIP: the kernel does not hand over here: {why}");
        return;
    }
    pin(0);
    for core in [0, 1] {
        let mut plane = Plane::load(Setup { slots: 1024, arenas: 2, edges: 16 }).unwrap();
        let seats = [Seat { holder: 1, arena: 0 }, Seat { holder: 2, arena: 1 }];
        let [a, b] = seats.map(|seat| plane.join(seat).unwrap());
        plane.open_edge(0, seats[0], seats[1]).unwrap();
        let root = [1 << 32 | 1 << 16 | 2 << 8 | 7, 0, 0, 0, u64::MAX, 1 << 32, 0, 0];
        assert!(plane.scribe().write(0, 0, &root, true));
        let (near, far) = UnixStream::pair().unwrap();
        let mut children = [child("kernel", core, b.replica), child("unix", core, far.into())];
        let (mut kernel, mut unix) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            kernel.push(measure(a.replica.as_fd(), &packet(Kind::Request)));
            unix.push(measure(near.as_fd(), &[7; 64]));
        }
        let (least, least_unix) = (kernel.iter().min().unwrap(), unix.iter().min().unwrap());
        println!(
            "cores 0 and {core}: least {least} ns, unix {least_unix} ns: {:.2}",
            *least as f64 / *least_unix as f64
        );
        let (kernel, unix) = (median(kernel), median(unix));
        println!(
            "cores 0 and {core}: a hand-over and its answer {kernel} ns, a Unix socket {unix} ns: {:.2} times",
            kernel as f64 / unix as f64
        );
        assert_eq!(plane.edge_counts(0).unwrap().refusals, 0);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
