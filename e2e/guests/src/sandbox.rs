//! A function that says what it can reach.

// UNSAFETY: descriptors are tried by number.
#![expect(unsafe_code, reason = "a descriptor that is not known can only be borrowed by number")]

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use baton::{Context, Error, Request, Response};

/// Descriptors that are tried.
const FDS: std::ops::Range<i32> = 0..512;

/// One line for each attempt: `yes` where it worked.
pub(crate) async fn report(_ctx: Context, request: Request) -> Result<Response, Error> {
    if request.path() == "/fork" {
        // A program that is not there at all would fail in the same way: what counts is that nothing runs.
        let started = std::process::Command::new("/bin/sh").arg("-c").arg("exit 0").status();
        return Ok(Response::ok(if started.is_ok() { "yes" } else { "no" }));
    }
    let mut text = String::new();
    let mut line = |what: &str, worked: bool| {
        let _ = writeln!(text, "{what}={}", if worked { "yes" } else { "no" });
    };
    for path in ["/etc/passwd", "/proc/self/maps", "/proc/1/cmdline", "/dev/null", "/usr/bin/env", "/tmp"] {
        line(&format!("read {path}"), std::fs::read(path).is_ok() || std::fs::read_dir(path).is_ok());
    }
    for path in ["/tmp/x", "/x", "x"] {
        line(&format!("write {path}"), std::fs::write(path, b"x").is_ok());
    }
    let entries = std::fs::read_dir("/").map_or(0, Iterator::count);
    line("entries in /", entries > 0);
    let target = request.query().and_then(|query| query.strip_prefix("connect=")).unwrap_or("127.0.0.1:1");
    if let Ok(address) = target.parse() {
        line("connect", TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok());
    }
    line("listen", TcpListener::bind("127.0.0.1:0").is_ok());
    line("udp", UdpSocket::bind("127.0.0.1:0").is_ok());
    let variables: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    let _ = writeln!(text, "env={}", variables.join(","));
    let _ = writeln!(text, "pid={}", std::process::id());
    let _ = writeln!(text, "fds={}", open_descriptors());
    Ok(Response::ok(text))
}

/// The open ones, found by asking for their flags.
fn open_descriptors() -> String {
    let open = FDS.filter(|&fd| descriptor_is_open(fd)).map(|fd| fd.to_string());
    open.collect::<Vec<_>>().join(",")
}

fn descriptor_is_open(fd: i32) -> bool {
    // SAFETY: the borrow lasts for one `fcntl`, which fails for a number that is not open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().is_ok()
}
