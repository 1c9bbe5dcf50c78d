//! The last lines that functions wrote, and what the node says about them.

mod lines;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::lines::{About, Lines};
use crate::receipts::name;
use crate::status::LogLine;
use crate::traces::Known;

/// Lines that are kept of each app: one that writes much does not push out what others wrote.
pub(crate) const LINES_MAX: usize = 10_000;
/// Bytes of a line that are kept.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;

/// The log of all apps.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    apps: BTreeMap<String, Lines>,
    last: u64,
    /// Which invocations are traced.
    known: Rc<Known>,
    /// Where the text of a line is put together.
    scratch: String,
}

/// Who wrote a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) app: &'a str,
    pub(crate) function: &'a str,
    pub(crate) holder: u16,
}

impl Logs {
    /// An empty log whose lines name the traces that `known` knows.
    pub(crate) fn known(known: Rc<Known>) -> Logs {
        Logs { known, ..Logs::default() }
    }

    /// Adds a line as a function wrote it: `\u{1}`, a letter for the level, 16 digits for the invocation, a blank and
    /// the text; anything else is plain output.
    pub(crate) fn add_raw(&mut self, writer: Writer<'_>, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let parsed = text.strip_prefix('\u{1}').and_then(|rest| {
            let (mark, message) = rest.split_once(' ')?;
            let mut letters = mark.chars();
            let level = match letters.next()? {
                'E' => "error",
                'W' => "warn",
                'I' => "info",
                'D' => "debug",
                _ => return None,
            };
            let invocation = letters.as_str();
            let number = u64::from_str_radix(invocation, 16).ok().filter(|_| invocation.len() == 16);
            Some((level, number.unwrap_or(0), message))
        });
        match parsed {
            Some((level, invocation, message)) => self.add(writer, level, invocation, message),
            None => self.add(writer, "out", 0, &text),
        }
    }

    /// Adds lines, each as for [`Logs::add_raw`].
    pub(crate) fn add_lines(&mut self, writer: Writer<'_>, text: &[u8]) {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            self.add_raw(writer, line);
        }
    }

    /// Adds a line; `invocation` is 0 where it names none.
    pub(crate) fn add(&mut self, writer: Writer<'_>, level: &'static str, invocation: u64, message: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.add_at(millis(since), writer, (level, invocation), message);
    }

    /// Adds a line that is put together in place. There may be one for every request: nothing is allocated once the log is full,
    /// and its time is as exact as the kernel's tick.
    pub(crate) fn add_written(
        &mut self,
        writer: Writer<'_>,
        level: &'static str,
        invocation: u64,
        write: impl FnOnce(&mut String),
    ) {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        write(&mut text);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        self.add_at(millis(Duration::try_from(now).unwrap_or_default()), writer, (level, invocation), &text);
        self.scratch = text;
    }

    fn add_at(
        &mut self,
        time_ms: u64,
        writer: Writer<'_>,
        (level, invocation): (&'static str, u64),
        message: &str,
    ) {
        self.last += 1;
        let message = message.get(..message.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default();
        let traced = self.known.of(invocation);
        show(writer, level, (invocation, traced), message);
        let about = About { number: self.last, time_ms, invocation, holder: writer.holder, level };
        match self.apps.get_mut(writer.app) {
            Some(lines) => lines.push(about, writer.function, traced, message),
            None => {
                let mut lines = Lines::default();
                lines.push(about, writer.function, traced, message);
                self.apps.insert(writer.app.to_owned(), lines);
            }
        }
    }

    /// The first `max` lines behind `number`, oldest first.
    pub(crate) fn batch(&self, number: u64, max: usize) -> Vec<LogLine> {
        let of_each = self
            .apps
            .iter()
            .map(|(app, lines)| lines.behind(number).take(max).map(move |at| (app, lines, at)));
        let mut found: Vec<_> = of_each.flatten().collect();
        found.sort_unstable_by_key(|(_, lines, at)| lines.number(*at));
        found.truncate(max);
        found.into_iter().filter_map(|(app, lines, at)| lines.get(app, at)).collect()
    }

    /// Lines behind `number`, oldest first.
    pub(crate) fn after(&self, number: u64, app: Option<&str>, function: Option<&str>) -> Vec<LogLine> {
        let apps = self.apps.iter().filter(|(name, _)| app.is_none_or(|app| app == *name));
        let mut found: Vec<LogLine> = apps
            .flat_map(|(name, lines)| {
                let wanted = move |at: &usize| function.is_none_or(|function| lines.is_of(*at, function));
                lines.behind(number).filter(wanted).filter_map(move |at| lines.get(name, at))
            })
            .collect();
        found.sort_unstable_by_key(|line| line.number);
        found
    }
}

fn millis(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Says a line to whoever listens to the node's own log, as target `function`.
fn show(writer: Writer<'_>, level: &str, (invocation, traced): (u64, Option<(u128, u64)>), message: &str) {
    macro_rules! say {
        ($level:ident) => {
            tracing::event!(
                target: "function",
                tracing::Level::$level,
                app = writer.app,
                function = writer.function,
                replica = writer.holder,
                invocation = (invocation != 0).then(|| name(invocation)),
                trace = traced.map(|(trace, _)| format!("{trace:032x}")),
                "{message}"
            )
        };
    }
    match level {
        "error" => say!(ERROR),
        "warn" => say!(WARN),
        "debug" => say!(DEBUG),
        _ => say!(INFO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: Writer<'_> = Writer { app: "a", function: "f", holder: 3 };

    #[test]
    fn marked_lines_name_level_and_invocation() {
        let mut logs = Logs::default();
        logs.add_raw(WRITER, b"\x01W00000000000000ff low on stock");
        logs.add_raw(WRITER, b"plain");
        logs.add_raw(WRITER, b"\x01Zoops");
        let lines = logs.after(0, None, None);
        assert_eq!(lines[0].level, "warn");
        assert_eq!(lines[0].invocation.as_deref(), Some("00000000000000ff"));
        assert_eq!(lines[0].message, "low on stock");
        assert_eq!((lines[1].level.as_str(), lines[2].level.as_str()), ("out", "out"));
    }

    #[test]
    fn only_the_last_lines_are_kept_and_found_by_number() {
        let mut logs = Logs::default();
        for number in 0..LINES_MAX + 5 {
            logs.add(WRITER, "info", 0, &number.to_string());
        }
        assert_eq!(logs.after(0, None, None).len(), LINES_MAX);
        assert_eq!(logs.after(u64::try_from(LINES_MAX).unwrap() + 3, Some("a"), Some("f")).len(), 2);
        assert!(logs.after(0, Some("b"), None).is_empty());
        logs.add(Writer { app: "b", ..WRITER }, "info", 0, "other");
        let batch = logs.batch(5, 3);
        assert_eq!(batch.iter().map(|line| line.number).collect::<Vec<_>>(), [6, 7, 8]);
        assert_eq!(logs.batch(u64::try_from(LINES_MAX).unwrap() + 4, 3).len(), 2);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let mut logs = Logs::default();
        logs.add_raw(WRITER, "ä".repeat(LINE_BYTES_MAX).as_bytes());
        assert!(logs.after(0, None, None)[0].message.len() <= LINE_BYTES_MAX);
    }
}
