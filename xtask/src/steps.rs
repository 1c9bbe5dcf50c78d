//! A list of steps, one after the other, each with a heading and its duration; the first failure ends the list.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// One step of a task over `T`.
pub(crate) struct Step<T> {
    /// What it is called in headings and after `--only`.
    pub(crate) name: &'static str,
    /// Whether `--quick` keeps it.
    pub(crate) quick: bool,
    /// What it does.
    pub(crate) run: fn(&T) -> Result<Outcome, Box<dyn Error>>,
}

/// How a step ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it is for.
    Done,
    /// It could not, and that is no failure here.
    Skipped(String),
}

/// The step that failed.
#[derive(Debug)]
pub(crate) struct StepError {
    name: &'static str,
    source: Box<dyn Error>,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step `{}`: {}", self.name, self.source)
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Runs the steps. After the last one nothing is printed, so that a summary which it prints itself stays in sight.
pub(crate) fn run<'a, T: 'a>(on: &T, steps: impl IntoIterator<Item = &'a Step<T>>) -> Result<(), StepError> {
    let steps: Vec<_> = steps.into_iter().collect();
    let started = Instant::now();
    for (index, step) in steps.iter().enumerate() {
        let (number, count) = (index + 1, steps.len());
        println!("\n=== {number}/{count} {} (after {})", step.name, shown(started.elapsed()));
        let began = Instant::now();
        let outcome = (step.run)(on).map_err(|source| StepError { name: step.name, source })?;
        if let Outcome::Skipped(why) = &outcome {
            println!("SKIP: {}: {why}", step.name);
        }
        if number < count {
            println!("--- {}: {}", step.name, shown(began.elapsed()));
        }
    }
    Ok(())
}

/// A duration as a person reads it.
pub(crate) fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    type Log = RefCell<Vec<&'static str>>;

    fn good(log: &Log) -> Result<Outcome, Box<dyn Error>> {
        log.borrow_mut().push("good");
        Ok(Outcome::Done)
    }

    fn skips(log: &Log) -> Result<Outcome, Box<dyn Error>> {
        log.borrow_mut().push("skips");
        Ok(Outcome::Skipped("nothing to do".into()))
    }

    fn bad(log: &Log) -> Result<Outcome, Box<dyn Error>> {
        log.borrow_mut().push("bad");
        Err("broken".into())
    }

    fn step(name: &'static str, run: fn(&Log) -> Result<Outcome, Box<dyn Error>>) -> Step<Log> {
        Step { name, quick: false, run }
    }

    #[test]
    fn the_first_failure_ends_the_list_and_is_named() {
        let log = Log::default();
        let steps = [step("a", good), step("b", skips), step("c", bad), step("d", good)];
        let error = run(&log, &steps).unwrap_err();
        assert_eq!(error.to_string(), "step `c`: broken");
        assert_eq!(*log.borrow(), ["good", "skips", "bad"]);
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(shown(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(shown(Duration::from_secs(125)), "2 min 5 s");
    }
}
