//! `baton logs`: what functions wrote.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::talk;
use crate::cli::LogsArgs;
use crate::client::escaped;
use crate::failure::Failure;
use crate::output::{Style, json_out, line_out};

/// How long one request waits for lines, in milliseconds.
const WAIT_MS: u64 = 25_000;

#[derive(Debug, Deserialize)]
struct Page {
    lines: Vec<Value>,
    next: u64,
}

#[derive(Debug, Deserialize)]
struct Line {
    time_ms: u64,
    app: String,
    function: String,
    holder: u16,
    level: String,
    message: String,
}

pub(super) fn run(home: &Path, args: &LogsArgs) -> Result<(), Failure> {
    let mut filter = String::new();
    if let Some(scope) = &args.of {
        filter = format!("&app={}", escaped(&scope.app));
        if let Some(function) = &scope.function {
            filter.push_str(&format!("&function={}", escaped(function)));
        }
    }
    talk(home, async |client| {
        let mut after = 0;
        // What is there comes at once; only then is anything waited for.
        let mut wait_ms = 0;
        loop {
            let page: Page = client.get(&format!("/v1/logs?after={after}&wait_ms={wait_ms}{filter}")).await?;
            if page.lines.is_empty() {
                if !args.follow {
                    return Ok(());
                }
                wait_ms = WAIT_MS;
            }
            after = page.next;
            for line in page.lines {
                print(line, args.json)?;
            }
        }
    })
}

fn print(line: Value, json: bool) -> Result<(), Failure> {
    if json {
        return json_out(&line);
    }
    let line: Line = serde_json::from_value(line).map_err(|error| {
        Failure::failed(
            format_args!("a log line is not understood: {error}"),
            "use the node's version of baton",
        )
    })?;
    line_out(&described(&line, Style::stdout()))
}

fn described(line: &Line, style: Style) -> String {
    let level = match line.level.as_str() {
        "error" => style.red("error"),
        "warn" => style.yellow("warn "),
        "info" => style.green("info "),
        other => style.faint(&format!("{other:5}")),
    };
    let replica = match line.holder {
        0 => line.function.clone(),
        holder => format!("{}#{holder}", line.function),
    };
    // A function's text must not reach the terminal as commands to it.
    let message: String =
        line.message.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    format!("{} {level} {}/{replica} {message}", style.faint(&clock(line.time_ms)), line.app)
}

/// Time of day, UTC.
fn clock(time_ms: u64) -> String {
    let (seconds, ms) = (time_ms / 1000, time_ms % 1000);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    format!("{:02}:{:02}:{:02}.{ms:03}", hours % 24, minutes % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_readable_and_harmless() {
        let line = Line {
            time_ms: 86_400_000 + 3_723_004,
            app: "shop".to_owned(),
            function: "cart".to_owned(),
            holder: 3,
            level: "info".to_owned(),
            message: "hi\u{1b}[2J".to_owned(),
        };
        let text = described(&line, Style::stdout());
        assert!(text.contains("01:02:03.004") && text.contains("shop/cart#3"), "{text}");
        assert!(!text.contains("\u{1b}[2J"));
    }
}
