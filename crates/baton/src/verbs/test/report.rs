//! What the cases came to: for people, as JSON, as JUnit's XML.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Style, json_out, line_out};

/// One case that was run.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) passed: bool,
    pub(super) millis: u64,
    /// What was not as expected.
    pub(super) differences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invocation: Option<String>,
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    app: &'a str,
    passed: usize,
    failed: usize,
    cases: &'a [Outcome],
}

/// Prints one outcome for people.
pub(super) fn show(outcome: &Outcome) -> Result<(), Failure> {
    let style = Style::stdout();
    let mark = if outcome.passed { style.green("pass") } else { style.red("FAIL") };
    line_out(&format!("{mark} {} {}", outcome.name, style.faint(&format!("({} ms)", outcome.millis))))?;
    let lines = outcome.differences.iter().flat_map(|difference| difference.lines());
    lines.map(|line| format!("     {line}")).try_for_each(|line| line_out(&line))
}

/// Prints the sum of all.
pub(super) fn sum(app: &str, outcomes: &[Outcome], json: bool, took: Duration) -> Result<(), Failure> {
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let failed = outcomes.len() - passed;
    if json {
        return json_out(&Summary { app, passed, failed, cases: outcomes });
    }
    line_out(&format!("{passed} passed, {failed} failed in {:.1} s", took.as_secs_f64()))
}

/// Writes JUnit's XML.
pub(super) fn junit(file: &Path, app: &str, outcomes: &[Outcome]) -> Result<(), Failure> {
    std::fs::write(file, xml(app, outcomes)).map_err(|error| {
        Failure::failed(
            format_args!("cannot write {}: {error}", file.display()),
            "name a file that can be written",
        )
    })
}

fn xml(app: &str, outcomes: &[Outcome]) -> String {
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let seconds = |millis: u64| format!("{}.{:03}", millis / 1000, millis % 1000);
    let total = seconds(outcomes.iter().map(|outcome| outcome.millis).sum());
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" time=\"{total}\">\n",
        escaped(app),
        outcomes.len(),
    );
    for outcome in outcomes {
        let (name, time) = (escaped(&outcome.name), seconds(outcome.millis));
        text.push_str(&format!("  <testcase classname=\"{}\" name=\"{name}\" time=\"{time}\"", escaped(app)));
        if outcome.passed {
            text.push_str("/>\n");
        } else {
            let why = escaped(&outcome.differences.join("\n"));
            text.push_str(&format!(
                ">\n    <failure message=\"not as expected\">{why}</failure>\n  </testcase>\n"
            ));
        }
    }
    text.push_str("</testsuite>\n");
    text
}

/// Text as XML has it; what XML cannot have becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(character),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_escaped() {
        let outcome = |name: &str, differences: &[&str]| Outcome {
            name: name.to_owned(),
            passed: differences.is_empty(),
            millis: 1234,
            differences: differences.iter().map(|text| (*text).to_owned()).collect(),
            invocation: None,
        };
        let text = xml("a", &[outcome("fine", &[]), outcome("<b>", &["x & \u{1}\"y\""])]);
        assert!(text.contains("tests=\"2\" failures=\"1\" time=\"2.468\""));
        assert!(text.contains("name=\"&lt;b&gt;\""));
        assert!(text.contains(">x &amp; \u{fffd}&quot;y&quot;</failure>"));
    }
}
