//! Arguments about versions of an app.

use baton_catalog::{Percent, Rollback, Sticky, TimeSpan};
use clap::Args;

use super::JsonArgs;

/// How a new version takes over.
#[derive(Debug, Default, Args)]
pub(crate) struct RolloutArgs {
    /// Give the new version a part of the requests only; 100% takes all at once, whatever the manifest says
    #[arg(long, visible_alias = "weight", value_name = "PERCENT")]
    pub(crate) canary: Option<Percent>,
    /// By what one who asks again is known: header:NAME, cookie:NAME or client
    #[arg(long, value_name = "WHAT", requires = "canary")]
    pub(crate) sticky: Option<Sticky>,
    /// Undo the new version if its share of failures rises above the old one's, such as errors=5%,after=20,window=60s
    #[arg(long, value_name = "TERMS", value_parser = rollback)]
    pub(crate) rollback: Option<Rollback>,
}

/// Reads `errors=5%,after=20,window=60s`, each of them at most once.
fn rollback(text: &str) -> Result<Rollback, String> {
    let mut terms = Rollback::default();
    let mut seen = Vec::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or("write errors=5%,after=20,window=60s")?;
        if seen.contains(&key) {
            return Err(format!("{key} is there twice"));
        }
        seen.push(key);
        match key {
            "errors" => {
                terms.errors =
                    value.parse().map_err(|fault: baton_catalog::RolloutFault| fault.to_string())?
            }
            "after" => terms.after = value.parse().map_err(|_| "after is a number of requests".to_owned())?,
            "window" => {
                terms.window = value.parse::<TimeSpan>().map_err(|fault| format!("window: {fault}"))?;
            }
            _ => return Err(format!("there is no {key:?}; errors, after and window are there")),
        }
    }
    Ok(terms)
}

#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    /// The app
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The app
    pub(crate) app: String,
    /// The version to go back to, such as 3 or v3 [default: the one before]
    #[arg(value_name = "VERSION", value_parser = version)]
    pub(crate) to: Option<u64>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TrafficArgs {
    /// The app
    pub(crate) app: String,
    /// One or two versions and their parts of the requests, such as v3=90 v4=10
    #[arg(required = true, value_name = "VERSION=PERCENT", value_parser = share)]
    pub(crate) shares: Vec<(u64, Percent)>,
    /// By what one who asks again is known: header:NAME, cookie:NAME or client [default: as it was]
    #[arg(long, value_name = "WHAT")]
    pub(crate) sticky: Option<Sticky>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

fn version(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix('v').unwrap_or(text);
    let parsed = number.parse().ok().filter(|number| *number > 0);
    parsed.ok_or_else(|| "a version is a number such as 3 or v3".to_owned())
}

fn share(text: &str) -> Result<(u64, Percent), String> {
    let (number, share) = text.split_once('=').ok_or("write VERSION=PERCENT, such as v3=90")?;
    let whole = if share.ends_with('%') { share.to_owned() } else { format!("{share}%") };
    let share = whole.parse::<Percent>().map_err(|fault| fault.to_string())?;
    Ok((version(number)?, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_versions_are_read_as_people_write_them() {
        let percent = |percent: u16| Percent::from_hundredths(percent * 100).unwrap();
        assert_eq!(share("v3=90"), Ok((3, percent(90))));
        assert_eq!(share("4=10%"), Ok((4, percent(10))));
        for text in ["", "v3", "v=1", "v0=1", "v3=101", "v3=-1", "x3=1", "v3=ten"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn terms_of_a_roll_back_are_read_in_any_order_and_once() {
        let terms = rollback("window=30s,errors=2%").unwrap();
        assert_eq!((terms.errors.hundredths(), terms.after, terms.window.millis()), (200, 20, 30_000));
        for text in ["", "errors", "errors=2", "after=x", "errors=2%,errors=3%", "until=3"] {
            assert!(rollback(text).is_err(), "{text}");
        }
    }
}
