//! The last lines that functions wrote, and what the node says about them.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::status::LogLine;
use crate::traces::Known;

/// Lines that are kept of each app: one that writes much does not push out what others wrote.
pub(crate) const LINES_MAX: usize = 10_000;
/// Bytes of a line that are kept.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;

/// The log of all apps.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    apps: BTreeMap<String, VecDeque<LogLine>>,
    last: u64,
    /// Which invocations are traced.
    known: Rc<Known>,
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
            let known = invocation.len() == 16 && invocation != "0000000000000000";
            Some((level, known.then(|| invocation.to_owned()), message))
        });
        match parsed {
            Some((level, invocation, message)) => self.add(writer, level, invocation, message),
            None => self.add(writer, "out", None, &text),
        }
    }

    /// Adds lines, each as for [`Logs::add_raw`].
    pub(crate) fn add_lines(&mut self, writer: Writer<'_>, text: &[u8]) {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            self.add_raw(writer, line);
        }
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, writer: Writer<'_>, level: &str, invocation: Option<String>, message: &str) {
        self.last += 1;
        if !self.apps.contains_key(writer.app) {
            self.apps.insert(writer.app.to_owned(), VecDeque::new());
        }
        let Some(lines) = self.apps.get_mut(writer.app) else { return };
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        let end = message.floor_char_boundary(LINE_BYTES_MAX);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let message = message.get(..end).unwrap_or_default();
        let traced = invocation.as_deref().and_then(|invocation| self.known.of(invocation));
        let (trace, span) =
            traced.map(|(trace, span)| (format!("{trace:032x}"), format!("{span:016x}"))).unzip();
        show(writer, level, (invocation.as_deref(), trace.as_deref()), message);
        lines.push_back(LogLine {
            number: self.last,
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            app: writer.app.to_owned(),
            function: writer.function.to_owned(),
            holder: writer.holder,
            level: level.to_owned(),
            invocation,
            trace,
            span,
            message: message.to_owned(),
        });
    }

    /// The first `max` lines behind `number`, oldest first.
    pub(crate) fn batch(&self, number: u64, max: usize) -> Vec<LogLine> {
        let behind = |lines: &VecDeque<LogLine>| lines.partition_point(|line| line.number <= number);
        let of_each = self.apps.values().map(|lines| lines.range(behind(lines)..).take(max));
        let mut found: Vec<&LogLine> = of_each.flatten().collect();
        found.sort_unstable_by_key(|line| line.number);
        found.truncate(max);
        found.into_iter().cloned().collect()
    }

    /// Lines behind `number`, oldest first.
    pub(crate) fn after(&self, number: u64, app: Option<&str>, function: Option<&str>) -> Vec<LogLine> {
        let wanted = |line: &&LogLine| function.is_none_or(|name| line.function == name);
        let apps = self.apps.iter().filter(|(name, _)| app.is_none_or(|app| app == *name));
        let mut found: Vec<LogLine> = apps
            .flat_map(|(_, lines)| {
                let from = lines.partition_point(|line| line.number <= number);
                lines.range(from..).filter(wanted).cloned()
            })
            .collect();
        found.sort_unstable_by_key(|line| line.number);
        found
    }
}

/// Says a line to whoever listens to the node's own log, as target `function`.
fn show(writer: Writer<'_>, level: &str, (invocation, trace): (Option<&str>, Option<&str>), message: &str) {
    macro_rules! say {
        ($level:ident) => {
            tracing::event!(
                target: "function",
                tracing::Level::$level,
                app = writer.app,
                function = writer.function,
                replica = writer.holder,
                invocation,
                trace,
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
            logs.add(WRITER, "info", None, &number.to_string());
        }
        assert_eq!(logs.after(0, None, None).len(), LINES_MAX);
        assert_eq!(logs.after(u64::try_from(LINES_MAX).unwrap() + 3, Some("a"), Some("f")).len(), 2);
        assert!(logs.after(0, Some("b"), None).is_empty());
        logs.add(Writer { app: "b", ..WRITER }, "info", None, "other");
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
