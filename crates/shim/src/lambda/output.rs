//! What the program writes, on its way to the function's log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::desk::Desk;

/// Longest line of the log.
const LINE_BYTES_MAX: u64 = 8 << 10;
/// How long the last lines of a call are waited for, and how often they are looked for.
const LAST_WITHIN: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// The read end of a program's output.
#[derive(Debug)]
pub(super) struct Output {
    pipe: OwnedFd,
    /// Held from the first look at bytes until their lines are in the log.
    turn: Mutex<()>,
}

impl Output {
    pub(super) fn new(pipe: OwnedFd) -> Output {
        Output { pipe, turn: Mutex::default() }
    }

    /// Passes on what the program writes, line by line, each with the invocation that it has, until the last writer is gone.
    pub(super) fn copy(&self, desk: &Desk) {
        let Ok(own) = self.pipe.try_clone() else { return };
        let mut from = BufReader::new(File::from(own));
        loop {
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if !next_line(&mut from, desk) {
                    return;
                }
                if from.buffer().is_empty() {
                    break;
                }
            }
        }
    }

    /// Waits until what the program has written by now is in the log, for a short time at most.
    pub(super) fn settle(&self) {
        let until = Instant::now() + LAST_WITHIN;
        while !self.is_empty() && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
    }

    fn is_empty(&self) -> bool {
        match self.turn.try_lock() {
            Ok(_) | Err(TryLockError::Poisoned(_)) => {
                rustix::io::ioctl_fionread(&self.pipe).unwrap_or(0) == 0
            }
            Err(TryLockError::WouldBlock) => false,
        }
    }
}

/// Passes one line on. `false` if there are no more.
fn next_line(from: &mut BufReader<File>, desk: &Desk) -> bool {
    let mut line = Vec::new();
    match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => return false,
        Ok(_) => {}
    }
    // Some runtimes write carriage returns between lines that belong together.
    let text = String::from_utf8_lossy(&line);
    for text in text.trim_end().split('\r') {
        log(desk.lock().logged, text);
    }
    true
}

/// A line of the function's log, and whose it is.
pub(super) fn log(invocation: u64, text: &str) {
    let text: String = text.chars().filter(|letter| *letter != '\u{1}').collect();
    let line =
        if invocation == 0 { format!("{text}\n") } else { format!("\u{1}I{invocation:016x} {text}\n") };
    // One write a line; a log that cannot be written is lost.
    let _ = io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_written_is_in_the_log_before_the_wait_is_over() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (output, desk) = (Arc::new(Output::new(read)), Arc::new(Desk::default()));
        assert!(output.is_empty());
        rustix::io::write(&write, b"one\rtwo\nthree\n").unwrap();
        assert!(!output.is_empty());
        let copying = thread::spawn({
            let (output, desk) = (Arc::clone(&output), Arc::clone(&desk));
            move || output.copy(&desk)
        });
        output.settle();
        assert!(output.is_empty());
        drop(write);
        copying.join().unwrap();
    }
}
