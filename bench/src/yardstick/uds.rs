//! A request of N bytes and a reply of 64 over a Unix stream socket, both written and read to the last byte.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::{REPLY_BYTES, RoundTrips, YardstickError, measure, spawn_peer};

pub(super) fn call(payload: usize, iterations: u64) -> Result<RoundTrips, YardstickError> {
    let (mut here, there) = UnixStream::pair().map_err(YardstickError::Channel)?;
    let mut peer = spawn_peer("uds", payload, OwnedFd::from(there))?;
    // Not zero pages: those would all be one page, warm in the cache.
    let request = vec![1_u8; payload];
    let mut reply = [0; REPLY_BYTES];
    let result = measure(iterations, || {
        here.write_all(&request).and_then(|()| here.read_exact(&mut reply)).map_err(YardstickError::Channel)
    });
    drop(here);
    let _ = peer.wait();
    result
}

pub(super) fn answer(payload: usize) -> Result<(), YardstickError> {
    let channel = io::stdin().as_fd().try_clone_to_owned().map_err(YardstickError::Channel)?;
    echo(UnixStream::from(channel), payload).map_err(YardstickError::Channel)
}

fn echo(mut channel: UnixStream, payload: usize) -> io::Result<()> {
    let mut request = vec![0; payload];
    loop {
        match channel.read_exact(&mut request) {
            Ok(()) => channel.write_all(&[2; REPLY_BYTES])?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_its_reply_and_the_end_is_seen() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let echo = std::thread::spawn(move || echo(there, 300_000));
        for _ in 0..3 {
            here.write_all(&vec![1; 300_000]).unwrap();
            let mut reply = [0; REPLY_BYTES];
            here.read_exact(&mut reply).unwrap();
            assert_eq!(reply, [2; REPLY_BYTES]);
        }
        drop(here);
        echo.join().unwrap().unwrap();
    }
}
