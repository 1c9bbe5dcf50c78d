//! The last lines that functions wrote, and what the node says about them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::status::LogLine;

/// Lines that are kept of each app: one that writes much does not push out what others wrote.
pub(crate) const LINES_MAX: usize = 10_000;
/// Bytes of a line that are kept.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;

/// The log of all apps.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    apps: BTreeMap<String, VecDeque<LogLine>>,
    last: u64,
}

/// Who wrote a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) app: &'a str,
    pub(crate) function: &'a str,
    pub(crate) holder: u16,
}

impl Logs {
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
        lines.push_back(LogLine {
            number: self.last,
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            app: writer.app.to_owned(),
            function: writer.function.to_owned(),
            holder: writer.holder,
            level: level.to_owned(),
            invocation,
            message: message.get(..end).unwrap_or_default().to_owned(),
        });
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
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let mut logs = Logs::default();
        logs.add_raw(WRITER, "ä".repeat(LINE_BYTES_MAX).as_bytes());
        assert!(logs.after(0, None, None)[0].message.len() <= LINE_BYTES_MAX);
    }
}
