//! Running a build command: its output kept, the end of it shown if it fails.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;

use crate::failure::Failure;

/// Lines of a failed build that are shown.
const LINES_SHOWN: usize = 200;
/// Longest line that is kept, in bytes; cargo's JSON lines are the long ones.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// Runs a command to its end. Every line of standard output goes to `line`.
pub(super) fn quietly(
    command: &mut Command,
    what: &str,
    mut line: impl FnMut(&str) + Send,
) -> Result<(), Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let not_run = |error: std::io::Error| {
        Failure::failed(format_args!("{what}: cannot run {program}: {error}"), "install it, or correct PATH")
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_run)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (out, err) = thread::scope(|scope| {
        let errors = scope.spawn(|| stderr.map(|stderr| tail(stderr, |_| {})).unwrap_or_default());
        let out = stdout.map(|stdout| tail(stdout, &mut line)).unwrap_or_default();
        (out, errors.join().unwrap_or_default())
    });
    let status = child.wait().map_err(not_run)?;
    if status.success() {
        return Ok(());
    }
    let shown: Vec<String> = out.into_iter().chain(err).filter(|line| !line.starts_with('{')).collect();
    let shown = shown.join("\n");
    Err(Failure::failed(
        format_args!("{what} failed ({status})\n{shown}"),
        "correct what the build says, and build again",
    ))
}

/// Reads lines to the end and keeps the last ones.
fn tail(input: impl Read, mut each: impl FnMut(&str)) -> VecDeque<String> {
    let mut input = BufReader::new(input);
    let mut kept = VecDeque::new();
    loop {
        let mut bytes = Vec::new();
        match input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return kept,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        each(&line);
        if kept.len() == LINES_SHOWN {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_handed_on_and_the_last_ones_kept() {
        let text: String = (0..LINES_SHOWN + 5).map(|n| format!("{n}\n")).collect();
        let mut seen = 0;
        let kept = tail(text.as_bytes(), |_| seen += 1);
        assert_eq!(seen, LINES_SHOWN + 5);
        assert_eq!((kept.len(), kept.front().map(String::as_str)), (LINES_SHOWN, Some("5")));
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = quietly(&mut Command::new("no-such-program"), "function x", |_| {}).unwrap_err();
        assert!(format!("{failure:?}").contains("no-such-program"));
    }
}
