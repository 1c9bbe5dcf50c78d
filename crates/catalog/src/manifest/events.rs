//! What a function's queue of events does, and what fills it by the clock.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::check::{Misplaced, at_most, fail, not_longer, within};
use super::fault::message::suggest;
use super::{Manifest, ManifestFault, Site};
use crate::limits;
use crate::names::FunctionName;
use crate::nearest::nearest;
use crate::routes::Method;
use crate::units::TimeSpan;

/// What happens to events: calls that nobody waits for, which are on the disk until they are done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// How often one is tried.
    pub attempts: u32,
    /// How old one may become.
    pub age: TimeSpan,
    /// How long it waits after its first failure; twice as long after each further one.
    pub pause: TimeSpan,
    /// How many are tried at once on a node.
    pub concurrency: u32,
    /// How many may wait; one more is refused.
    pub queue: u32,
    /// Which function gets those that came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<FunctionName>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            attempts: 3,
            age: TimeSpan::from_millis(6 * 3_600_000),
            pause: TimeSpan::from_millis(1_000),
            concurrency: 8,
            queue: 10_000,
            dead_letter: None,
        }
    }
}

impl Events {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What can be wrong with schedules and queues of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerFault {
    /// A text that is no schedule.
    Schedule {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A time zone that this machine does not know.
    TimeZone {
        /// Its name.
        name: String,
    },
    /// Something that names a function that the app does not have.
    UnknownFunction {
        /// The key.
        key: &'static str,
        /// The function that does not exist.
        function: FunctionName,
        /// The function that it resembles.
        nearest: Option<String>,
    },
    /// A function whose undeliverable events would go to itself.
    DeadLetterToItself {
        /// The function.
        function: FunctionName,
    },
    /// A path that does not begin with a slash.
    RequestPath {
        /// What stands there.
        path: String,
    },
}

impl fmt::Display for TriggerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule { text, why } => write!(f, "{text:?} is no schedule: {why}"),
            Self::TimeZone { name } => write!(f, "this machine knows no time zone {name:?}"),
            Self::UnknownFunction { key, function, .. } => {
                write!(f, "{key} names function \"{function}\", which does not exist")
            }
            Self::DeadLetterToItself { function } => {
                write!(f, "what {function} fails at would go to {function} again")
            }
            Self::RequestPath { path } => {
                write!(f, "{path:?} is no path: one begins with a slash and holds no spaces")
            }
        }
    }
}

impl TriggerFault {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Schedule { .. } => {
                "write minute, hour, day, month and day of the week, such as \"0 3 * * MON\"".to_owned()
            }
            Self::TimeZone { .. } => "use a name such as \"Europe/Berlin\"".to_owned(),
            Self::UnknownFunction { nearest, .. } => {
                suggest(nearest.as_deref(), "add the function or name another one")
            }
            Self::DeadLetterToItself { .. } => "name another function, or remove dead_letter".to_owned(),
            Self::RequestPath { .. } => "write a path such as \"/nightly?full=1\"".to_owned(),
        }
    }
}

impl From<TriggerFault> for ManifestFault {
    fn from(fault: TriggerFault) -> Self {
        Self::Trigger(fault)
    }
}

/// An event at certain times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cron {
    /// Minute, hour, day, month and day of the week, before them seconds if there are six.
    pub schedule: String,
    /// The zone in which the times are meant, as IANA names it; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whom it calls.
    pub function: FunctionName,
    /// The method of the call.
    pub method: Method,
    /// The path of the call, with a query if there is one.
    pub path: String,
    /// The body of the call.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

impl Cron {
    /// The first time of it after `after_ms`, both in milliseconds since the epoch. `None` if there is none in the calendar.
    #[must_use]
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        let schedule = self.read().ok()?;
        let zone = self.zone()?;
        let after = Timestamp::from_millisecond(after_ms).ok()?.to_zoned(zone);
        let next = schedule.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp().as_millisecond())
    }

    fn read(&self) -> Result<croner::Cron, croner::errors::CronError> {
        use croner::parser::{CronParser, Seconds, Year};
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        parser.parse(&self.schedule)
    }

    fn zone(&self) -> Option<TimeZone> {
        match &self.timezone {
            None => Some(TimeZone::UTC),
            Some(name) => TimeZone::get(name).ok(),
        }
    }
}

pub(super) fn check(manifest: &Manifest, root: &Site) -> Result<(), Misplaced> {
    for (name, function) in &manifest.functions {
        events(manifest, name, &function.events, &root.then("functions").then(name).then("events"))?;
    }
    let site = root.then("cron");
    at_most(&site, "schedules", manifest.cron.len(), limits::CRON_MAX)?;
    manifest.cron.iter().enumerate().try_for_each(|(place, each)| cron(manifest, each, &site.then(place)))
}

fn events(manifest: &Manifest, name: &FunctionName, events: &Events, site: &Site) -> Result<(), Misplaced> {
    within(&site.then("attempts"), "events.attempts", events.attempts, (1, 100))?;
    let ages = (TimeSpan::from_millis(1_000), TimeSpan::from_millis(14 * 86_400_000));
    within(&site.then("age"), "events.age", events.age, ages)?;
    let pauses = (TimeSpan::from_millis(10), TimeSpan::from_millis(3_600_000));
    within(&site.then("pause"), "events.pause", events.pause, pauses)?;
    within(&site.then("concurrency"), "events.concurrency", events.concurrency, (1, 256))?;
    within(&site.then("queue"), "events.queue", events.queue, (1, 100_000))?;
    let Some(letter) = &events.dead_letter else { return Ok(()) };
    let site = site.then("dead_letter");
    if letter == name {
        return fail(site, TriggerFault::DeadLetterToItself { function: name.clone() }.into());
    }
    known(manifest, letter, "events.dead_letter", site)
}

fn cron(manifest: &Manifest, cron: &Cron, site: &Site) -> Result<(), Misplaced> {
    let schedule = site.then("schedule");
    not_longer(&schedule, "the schedule", cron.schedule.len(), limits::SCHEDULE_BYTES_MAX)?;
    if let Err(error) = cron.read() {
        let (text, why) = (cron.schedule.clone(), error.to_string());
        return fail(schedule, TriggerFault::Schedule { text, why }.into());
    }
    if cron.zone().is_none() {
        let name = cron.timezone.clone().unwrap_or_default();
        return fail(site.then("timezone"), TriggerFault::TimeZone { name }.into());
    }
    let path = site.then("path");
    not_longer(&path, "the path of the call", cron.path.len(), limits::PATTERN_BYTES_MAX)?;
    if !cron.path.starts_with('/') || !cron.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return fail(path, TriggerFault::RequestPath { path: cron.path.clone() }.into());
    }
    not_longer(&site.then("body"), "the body of the call", cron.body.len(), limits::CRON_BODY_BYTES_MAX)?;
    known(manifest, &cron.function, "cron.function", site.then("function"))
}

fn known(
    manifest: &Manifest,
    function: &FunctionName,
    key: &'static str,
    site: Site,
) -> Result<(), Misplaced> {
    if manifest.functions.contains_key(function) {
        return Ok(());
    }
    let nearest = nearest(function.as_str(), manifest.functions.keys().map(FunctionName::as_str));
    fail(site, TriggerFault::UnknownFunction { key, function: function.clone(), nearest }.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn read(more: &str) -> Result<Manifest, String> {
        let text = format!(
            "[app]\nname = \"a\"\n[functions.f]\nartifact = \"f\"\n[functions.g]\nartifact = \"g\"\n{more}"
        );
        Manifest::parse(&text, Path::new("baton.toml")).map_err(|error| error.to_string())
    }

    fn at(schedule: &str, timezone: Option<&str>) -> Cron {
        let zone = timezone.map(|zone| format!("timezone = \"{zone}\"\n")).unwrap_or_default();
        let read = read(&format!("[[cron]]\nschedule = \"{schedule}\"\nfunction = \"f\"\n{zone}"));
        read.unwrap().cron.remove(0)
    }

    fn moment(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn schedules_come_by_the_clock_of_their_zone() {
        let next = |cron: Cron, after| cron.next_after(moment(after)).unwrap();
        let after = "2026-03-28T12:00:30Z";
        assert_eq!(next(at("*/5 * * * *", None), after), moment("2026-03-28T12:05:00Z"));
        assert_eq!(next(at("*/10 * * * * *", None), after), moment("2026-03-28T12:00:40Z"));
        assert_eq!(next(at("0 3 * * MON", None), after), moment("2026-03-30T03:00:00Z"));
        // In that night the clock goes forward in Berlin.
        assert_eq!(next(at("0 6 * * *", Some("Europe/Berlin")), after), moment("2026-03-29T04:00:00Z"));
        assert_eq!(at("0 0 30 2 *", None).next_after(moment(after)), None);
    }

    #[test]
    fn what_no_clock_shows_is_refused_where_it_stands() {
        let cron = |line: &str| read(&format!("[[cron]]\n{line}\n")).unwrap_err();
        for (line, says) in [
            ("schedule = \"61 * * * *\"\nfunction = \"f\"", "schedule"),
            ("schedule = \"soon\"\nfunction = \"f\"", "schedule"),
            ("schedule = \"* * * * *\"\nfunction = \"ff\"", "\"f\""),
            ("schedule = \"* * * * *\"\nfunction = \"f\"\ntimezone = \"Berlin\"", "time zone"),
            ("schedule = \"* * * * *\"\nfunction = \"f\"\npath = \"x\"", "slash"),
            ("schedule = \"* * * * *\"", "function"),
        ] {
            let said = cron(line);
            assert!(said.contains(says), "{line}: {said}");
        }
        assert!(read("[functions.h]\nartifact = \"h\"\nevents = { dead_letter = \"h\" }\n").is_err());
        assert!(read("[functions.h]\nartifact = \"h\"\nevents = { dead_letter = \"i\" }\n").is_err());
        assert!(read("[functions.h]\nartifact = \"h\"\nevents = { attempts = 0 }\n").is_err());
        let good = read("[functions.h]\nartifact = \"h\"\nevents = { dead_letter = \"g\" }\n").unwrap();
        assert_eq!(good.function("h").unwrap().events.dead_letter.as_ref().unwrap().as_str(), "g");
    }

    proptest! {
        #[test]
        fn times_come_one_after_the_other(minute in 0..60u8, hour in 0..24u8, after in 0..4_000_000_000_000i64) {
            let cron = at(&format!("{minute} {hour} * * *"), Some("America/New_York"));
            let first = cron.next_after(after).unwrap();
            prop_assert!(first > after && first - after <= 26 * 3_600_000);
            prop_assert!(cron.next_after(first).unwrap() > first);
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,40}") {
            let cron = Cron { schedule: text, ..at("* * * * *", None) };
            let _ = cron.next_after(0);
        }
    }
}
