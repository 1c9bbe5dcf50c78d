//! What a node records of invocations, and where that goes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::JsonArgs;
use crate::logging::Format;
use crate::otlp::sample;
use crate::verbs::back;

/// Which invocations get receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipts {
    /// One in so many, from the first on; 1 for all.
    Every(u32),
    /// Those whose requests ask for one.
    OnDemand,
}

fn receipts(text: &str) -> Result<Receipts, String> {
    let every = |text: &str| text.parse().ok().filter(|every| *every > 0).map(Receipts::Every);
    let found = match text {
        "all" => Some(Receipts::Every(1)),
        "on-demand" => Some(Receipts::OnDemand),
        _ => text.strip_prefix("1/").and_then(every),
    };
    found.ok_or_else(|| format!("`{text}` is none of all, on-demand and 1/N, such as 1/100"))
}

#[derive(Debug, Args)]
pub(crate) struct TelemetryArgs {
    /// Record what invocations cost: of all, of one in N, or of those that ask by the header `x-baton-receipt: 1`, which
    /// counts in all three cases [default if named: all]
    #[arg(
        long,
        value_name = "all|1/N|on-demand",
        value_parser = receipts,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all"
    )]
    pub(crate) receipts: Option<Receipts>,
    /// Record what one invocation in N costs
    #[arg(long, value_name = "N", conflicts_with = "receipts", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) receipts_every: Option<u32>,
    /// Send traces and functions' lines to an OpenTelemetry collector, by OTLP over HTTP, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,
    /// The share of requests without a trace of their own that begin one, such as 1% or 0.01 [default: 1%]
    #[arg(long, value_name = "SHARE", value_parser = sample)]
    pub(crate) trace_sample: Option<u32>,
    /// How the node writes what it says on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: Format,
    /// What the node says, such as info or warn,baton_flow=debug; functions' lines are target `function`
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Only this app
    #[arg(value_name = "APP")]
    pub(crate) app: Option<String>,
    /// How far back, such as 90m, 24h or 7d [default: all that is kept, two months]
    #[arg(long, value_name = "TIME", value_parser = back)]
    pub(crate) since: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The app's directory
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The cases [default: baton.test.toml in the app's directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: Option<PathBuf>,
    /// Only cases whose names contain this
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Take what an earlier build left behind
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Write the results as JUnit's XML, too
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Run functions without a sandbox where this machine forbids one
    #[arg(long)]
    pub(crate) insecure_no_sandbox: bool,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

impl TelemetryArgs {
    pub(crate) fn receipts(&self) -> Option<Receipts> {
        self.receipts.or_else(|| self.receipts_every.map(Receipts::Every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_of_all_of_some_or_on_demand() {
        assert_eq!(receipts("all"), Ok(Receipts::Every(1)));
        assert_eq!(receipts("1/100"), Ok(Receipts::Every(100)));
        assert_eq!(receipts("on-demand"), Ok(Receipts::OnDemand));
        for bad in ["", "1/0", "2/3", "1/x", "some"] {
            assert!(receipts(bad).is_err(), "{bad}");
        }
    }
}
