//! Ping-pong over two shared words, each on a cache line of its own. Nothing spins: a side that has to wait sleeps.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use rustix::time::Timespec;

use super::{RoundTrips, YardstickError, measure, spawn_peer, sys};

const THERE: usize = 0;
const BACK: usize = 64;
/// How long a side sleeps before it gives the other one up.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// The turn that tells the peer to end.
const END: u32 = u32::MAX;

pub(super) fn call(iterations: u64) -> Result<RoundTrips, YardstickError> {
    let file = sys::create().map_err(YardstickError::Channel)?;
    let words = sys::map(&file).map_err(YardstickError::Channel)?;
    let mut peer = spawn_peer("futex", 0, file)?;
    let mut turn = 0;
    let result = measure(iterations, || {
        turn += 1;
        pass(&words[THERE], turn)?;
        await_change(&words[BACK], turn - 1).map(|_| ())
    });
    let _ = pass(&words[THERE], END);
    if result.is_err() {
        let _ = peer.kill();
    }
    let _ = peer.wait();
    result
}

pub(super) fn answer() -> Result<(), YardstickError> {
    let words = sys::map(std::io::stdin().as_fd()).map_err(YardstickError::Channel)?;
    let mut seen = 0;
    loop {
        seen = await_change(&words[THERE], seen)?;
        if seen == END {
            return Ok(());
        }
        pass(&words[BACK], seen)?;
    }
}

fn pass(word: &AtomicU32, turn: u32) -> Result<(), YardstickError> {
    word.store(turn, Ordering::Release);
    futex::wake(word, Flags::empty(), 1).map_err(|error| YardstickError::Channel(error.into()))?;
    Ok(())
}

fn await_change(word: &AtomicU32, seen: u32) -> Result<u32, YardstickError> {
    loop {
        let now = word.load(Ordering::Acquire);
        if now != seen {
            return Ok(now);
        }
        match futex::wait(word, Flags::empty(), seen, Some(&PATIENCE)) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::TIMEDOUT) => return Err(YardstickError::Silent),
            Err(error) => return Err(YardstickError::Channel(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_pass_turns_between_threads() {
        let file = sys::create().unwrap();
        let words = sys::map(&file).unwrap();
        let other = sys::map(&file).unwrap();
        let echo = std::thread::spawn(move || {
            for turn in 1..=100 {
                assert_eq!(await_change(&other[THERE], turn - 1).unwrap(), turn);
                pass(&other[BACK], turn).unwrap();
            }
        });
        for turn in 1..=100 {
            pass(&words[THERE], turn).unwrap();
            assert_eq!(await_change(&words[BACK], turn - 1).unwrap(), turn);
        }
        echo.join().unwrap();
    }
}
