//! The lines of one app, oldest first.
//!
//! ```text
//!  heads   │ number, time, invocation, … │ number, time, status, us … │      a row a line
//!  texts   │ what a function wrote        │ GET/cart                   │      their texts, one right behind the other
//! ```
//! Both are written from one end and forgotten from the other: a line costs no allocation of its own, and the processor's
//! prefetching is ahead of whoever writes one for every request.

use std::collections::VecDeque;
use std::rc::Rc;

use super::text::{Served, Text};
use super::{LINES_MAX, cut};
use crate::receipts::name;
use crate::status::LogLine;

/// Bytes of all texts that are kept: long lines leave room for fewer.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Names of functions that are kept for lines to come; names of older lines live as long as these.
const NAMES_MAX: usize = 128;

/// What is known of a line beside its text.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) number: u64,
    /// Since the epoch.
    pub(super) time_ms: u64,
    /// 0 for none.
    pub(super) invocation: u64,
    pub(super) holder: u16,
    pub(super) level: &'static str,
}

#[derive(Debug)]
struct Head {
    about: About,
    function: Rc<str>,
    traced: Option<Box<(u128, u64)>>,
    /// Of a request, whose text is not put into words yet.
    served: Option<Served>,
    /// Where its text ends, counted from the first byte that ever was.
    end: u64,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    heads: VecDeque<Head>,
    texts: VecDeque<u8>,
    /// Bytes of texts that were forgotten.
    gone: u64,
    names: VecDeque<Rc<str>>,
}

impl Lines {
    pub(super) fn push(
        &mut self,
        about: About,
        function: &str,
        traced: Option<(u128, u64)>,
        text: &Text<'_>,
    ) {
        let (served, parts) = text.parts();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        while self.heads.len() >= LINES_MAX || self.texts.len() + bytes > TEXT_BYTES_MAX {
            let Some(oldest) = self.heads.pop_front() else { break };
            let len = usize::try_from(oldest.end - self.gone).unwrap_or(usize::MAX);
            self.texts.drain(..len.min(self.texts.len()));
            self.gone = oldest.end;
        }
        let written = parts.iter().filter(|part| !part.is_empty());
        written.for_each(|part| self.texts.extend(part.as_bytes()));
        let end = self.gone + self.texts.len() as u64;
        let function = self.name(function);
        self.heads.push_back(Head { about, function, traced: traced.map(Box::new), served, end });
    }

    /// The one copy of a name. Whoever writes often is found first.
    fn name(&mut self, function: &str) -> Rc<str> {
        if let Some(known) = self.names.front().filter(|known| ***known == *function) {
            return Rc::clone(known);
        }
        let place = self.names.iter().position(|known| **known == *function);
        let found = place.and_then(|place| self.names.remove(place)).unwrap_or_else(|| Rc::from(function));
        if self.names.len() >= NAMES_MAX {
            self.names.pop_back();
        }
        self.names.push_front(Rc::clone(&found));
        found
    }

    /// The places of lines behind a number.
    pub(super) fn behind(&self, number: u64) -> std::ops::Range<usize> {
        self.heads.partition_point(|head| head.about.number <= number)..self.heads.len()
    }

    pub(super) fn number(&self, at: usize) -> u64 {
        self.heads.get(at).map_or(0, |head| head.about.number)
    }

    pub(super) fn is_of(&self, at: usize, function: &str) -> bool {
        self.heads.get(at).is_some_and(|head| *head.function == *function)
    }

    /// A line as others see it.
    pub(super) fn get(&self, app: &str, at: usize) -> Option<LogLine> {
        let head = self.heads.get(at)?;
        let before =
            at.checked_sub(1).and_then(|before| self.heads.get(before)).map_or(self.gone, |head| head.end);
        let place = |end: u64| usize::try_from(end - self.gone).unwrap_or(usize::MAX);
        let text: Vec<u8> = self.texts.range(place(before)..place(head.end)).copied().collect();
        let text = String::from_utf8_lossy(&text);
        let message = match head.served {
            None => text.into_owned(),
            Some(_) => cut(&Text::kept(head.served, &text).to_string()).to_owned(),
        };
        let About { number, time_ms, invocation, holder, level } = head.about;
        let (trace, span) = head
            .traced
            .as_deref()
            .map(|(trace, span)| (format!("{trace:032x}"), format!("{span:016x}")))
            .unzip();
        Some(LogLine {
            number,
            time_ms,
            app: app.to_owned(),
            function: head.function.to_string(),
            holder,
            level: level.to_owned(),
            invocation: (invocation != 0).then(|| name(invocation)),
            trace,
            span,
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(number: u64) -> About {
        About { number, time_ms: 1, invocation: number, holder: 0, level: "info" }
    }

    #[test]
    fn long_lines_leave_room_for_fewer_and_each_keeps_its_own_text() {
        let mut lines = Lines::default();
        let text = |number: u64| format!("{number:08}").repeat(1024);
        let most = TEXT_BYTES_MAX as u64 / 8192;
        for number in 1..=most + 3 {
            lines.push(
                about(number),
                if number % 2 == 0 { "f" } else { "g" },
                None,
                &Text::Plain(&text(number)),
            );
        }
        assert_eq!(lines.heads.len() as u64, most);
        assert!(lines.texts.len() <= TEXT_BYTES_MAX);
        let all: Vec<LogLine> = lines.behind(0).filter_map(|at| lines.get("a", at)).collect();
        assert_eq!(all.len() as u64, most);
        for line in &all {
            assert_eq!(line.message, text(line.number));
            assert_eq!(line.function, if line.number % 2 == 0 { "f" } else { "g" });
        }
        assert_eq!(all.first().map(|line| line.number), Some(4));
    }

    #[test]
    fn names_are_kept_once_and_no_more_than_may_be() {
        let mut lines = Lines::default();
        for number in 0..4 * NAMES_MAX as u64 {
            lines.push(about(number + 1), &format!("f{}", number % 300), None, &Text::Plain(""));
        }
        assert_eq!(lines.names.len(), NAMES_MAX);
        lines.push(about(10_000), "f1", Some((1, 2)), &Text::Plain("x"));
        lines.push(about(10_001), "f1", None, &Text::Plain("y"));
        let last = lines.heads.len() - 1;
        assert!(Rc::ptr_eq(&lines.heads[last].function, &lines.heads[last - 1].function));
        assert_eq!(lines.get("a", last - 1).unwrap().span.as_deref(), Some("0000000000000002"));
    }
}
