//! Bytes both ways between two connections, each way ending by itself.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes under way in one direction.
const BUFFER_BYTES: usize = 32 * 1024;
/// How long no byte moves either way until the connection counts as forgotten: pools of database connections rest for long.
const IDLE: Duration = Duration::from_secs(3600);

/// Passes bytes on until both sides have ended, one of them broke, or nothing moves any more. The end of one way is passed on, and
/// the other goes on.
pub(super) async fn both(
    inside: impl AsyncRead + AsyncWrite + Unpin,
    outside: impl AsyncRead + AsyncWrite + Unpin,
) {
    let (from_inside, to_inside) = tokio::io::split(inside);
    let (from_outside, to_outside) = tokio::io::split(outside);
    let moved = AtomicBool::new(false);
    // One that breaks ends the other: both are dropped.
    let _ = tokio::try_join!(one(from_inside, to_outside, &moved), one(from_outside, to_inside, &moved));
}

async fn one(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0u8; BUFFER_BYTES];
    loop {
        let count = match timeout(IDLE, from.read(&mut buffer)).await {
            Ok(count) => count?,
            // The other way may be the busy one.
            Err(_) if moved.swap(false, Ordering::Relaxed) => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        moved.store(true, Ordering::Relaxed);
        if count == 0 {
            return to.shutdown().await;
        }
        match timeout(IDLE, to.write_all(buffer.get(..count).unwrap_or_default())).await {
            Ok(written) => written?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn the_end_of_one_way_is_passed_on_and_the_other_goes_on() {
        let (mut client, inside) = duplex(64);
        let (outside, mut server) = duplex(64);
        let passing = tokio::spawn(both(inside, outside));
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"ask");
        let (answer, mut got) = (vec![7u8; 100_000], Vec::new());
        let writing = async {
            server.write_all(&answer).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(writing, client.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, answer);
        passing.await.unwrap();
    }
}
