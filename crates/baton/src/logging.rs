//! What the node and its functions say on standard error: as text for people, or as JSON for machines.
//!
//! Lines go through a bounded queue to a thread that writes them: a terminal or a pipe that nobody reads holds up no request.
//! What finds no room is dropped, and how much that was is said once there is room again.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::failure::Failure;
use crate::output::Style;

/// The variable that says what is logged, where no option does.
const LOG: &str = "BATON_LOG";
/// Lines that wait to be written.
const LINES_MAX: usize = 8192;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; functions' lines are left out, since `baton logs` has them
    #[default]
    Text,
    /// One JSON object a line, functions' lines among them
    Json,
}

/// Starts logging. `filter`: the option's, in the syntax of `tracing`'s filters.
pub(crate) fn start(format: Format, filter: Option<&str>) -> Result<(), Failure> {
    // The client of NATS tells of every try to connect; what matters of that the node says itself, once.
    let usual = match format {
        Format::Text => "info,async_nats=off,function=off",
        Format::Json => "info,async_nats=off",
    };
    let parsed = |text: &str| {
        EnvFilter::try_new(text).map_err(|error| {
            Failure::bad_input(
                format_args!("`{text}` is no filter for logs: {error}"),
                "write a level, or TARGET=LEVEL pairs, such as info,baton_flow=debug,function=off",
            )
        })
    };
    let filter = match filter {
        Some(text) => parsed(text)?,
        None => match std::env::var(LOG) {
            Ok(text) if !text.is_empty() => parsed(&text)?,
            _ => EnvFilter::new(usual),
        },
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Queue::start(io::stderr()));
    // Installing it fails only where another is installed, as in tests.
    let _ = match format {
        Format::Text => builder.with_ansi(Style::stderr().coloured()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    Ok(())
}

/// The way to the thread that writes.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<Mutex<u64>>,
}

impl Queue {
    fn start(to: impl Write + Send + 'static) -> Queue {
        let (lines, queue) = sync_channel(LINES_MAX);
        let dropped = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&dropped);
        // Without the thread nothing is written: the queue is closed then.
        let _ = thread::Builder::new()
            .name("baton-log".to_owned())
            .spawn(move || write_all(&queue, &counted, to));
        Queue { lines, dropped }
    }
}

fn write_all(queue: &Receiver<Vec<u8>>, dropped: &Mutex<u64>, mut to: impl Write) {
    while let Ok(line) = queue.recv() {
        // Nobody is left to hear of a standard error that is closed.
        let _ = to.write_all(&line);
        let lost = std::mem::take(&mut *dropped.lock().unwrap_or_else(PoisonError::into_inner));
        if lost > 0 {
            let _ = writeln!(to, "{lost} lines of the log were dropped: they came faster than they are read");
        }
    }
}

/// One line on its way; it goes when this is dropped.
struct Line {
    queue: Queue,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if let Err(TrySendError::Full(_)) = self.queue.lines.try_send(bytes) {
            *self.queue.dropped.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { queue: self.clone(), bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes only once it may.
    struct Gate(Receiver<()>, std::sync::mpsc::Sender<String>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_loses_lines_and_holds_nobody_up() {
        let (open, gate) = std::sync::mpsc::channel();
        let (seen, written) = std::sync::mpsc::channel();
        let queue = Queue::start(Gate(gate, seen));
        for number in 0..LINES_MAX + 100 {
            let mut line = queue.make_writer();
            line.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert!(*queue.dropped.lock().unwrap() >= 99);
        drop(open);
        let said = written
            .iter()
            .find(|line| line.contains("lines of the log were dropped") || line.contains("dropped"));
        assert!(said.is_some());
    }
}
