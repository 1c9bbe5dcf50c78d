//! The last lines that functions wrote, and what the node says about them.

mod lines;
mod text;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_policy::Line;

use self::lines::{About, Lines};
use self::text::Text;
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
        self.last += 1;
        let traced = self.known.of(invocation);
        let text = Text::Plain(cut(message));
        show(writer, level, (invocation, traced), &text);
        let about =
            About { number: self.last, time_ms: millis(since), invocation, holder: writer.holder, level };
        self.push(writer, about, traced, &text);
    }

    /// Adds what is told of a request. There may be one for every request: nothing is put into words before somebody reads it,
    /// nothing is allocated once the log is full, and its time is as exact as the kernel's tick.
    pub(crate) fn add_served(&mut self, app: &str, line: &Line<'_>) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        self.last += 1;
        let level = if line.status >= 500 { "warn" } else { "info" };
        let writer = Writer { app, function: line.function, holder: 0 };
        let text = Text::of(line);
        show(writer, level, (line.invocation, line.traced), &text);
        let about = About {
            number: self.last,
            time_ms: millis(Duration::try_from(now).unwrap_or_default()),
            invocation: line.invocation,
            holder: 0,
            level,
        };
        self.push(writer, about, line.traced, &text);
    }

    fn push(&mut self, writer: Writer<'_>, about: About, traced: Option<(u128, u64)>, text: &Text<'_>) {
        match self.apps.get_mut(writer.app) {
            Some(lines) => lines.push(about, writer.function, traced, text),
            None => {
                let mut lines = Lines::default();
                lines.push(about, writer.function, traced, text);
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

/// What is kept of a text.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default()
}

fn millis(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Says a line to whoever listens to the node's own log, as target `function`.
fn show(
    writer: Writer<'_>,
    level: &str,
    (invocation, traced): (u64, Option<(u128, u64)>),
    message: &impl Display,
) {
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
    fn what_is_told_of_a_request_is_put_into_words_when_it_is_read() {
        let mut logs = Logs::default();
        let line = Line {
            function: "f",
            method: "GET",
            path: "/cart",
            status: 200,
            duration_ns: 84_999,
            bytes_in: 0,
            bytes_out: u64::MAX,
            invocation: 255,
            traced: Some((1, 2)),
            key: None,
        };
        logs.add_served("a", &line);
        logs.add_served("a", &Line { status: 503, key: Some(""), path: "", invocation: 0, ..line });
        logs.add_served("a", &Line { path: &"ä".repeat(LINE_BYTES_MAX), ..line });
        let lines = logs.after(0, None, None);
        assert_eq!(lines[0].message, format!("GET /cart status=200 us=84 in=0 out={}", u64::MAX));
        assert_eq!(
            (lines[0].level.as_str(), lines[0].invocation.as_deref()),
            ("info", Some("00000000000000ff"))
        );
        assert_eq!(lines[0].span.as_deref(), Some("0000000000000002"));
        assert_eq!(lines[1].message, format!("GET  status=503 us=84 in=0 out={} key=", u64::MAX));
        assert_eq!((lines[1].level.as_str(), lines[1].invocation.as_deref()), ("warn", None));
        assert!(lines[2].message.len() <= LINE_BYTES_MAX);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let mut logs = Logs::default();
        logs.add_raw(WRITER, "ä".repeat(LINE_BYTES_MAX).as_bytes());
        assert!(logs.after(0, None, None)[0].message.len() <= LINE_BYTES_MAX);
    }
}
