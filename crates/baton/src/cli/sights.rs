//! Options of the verbs that show what goes on.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Longest time between two looks, seconds.
const EVERY_MAX_S: u64 = 60;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Only this app
    pub(crate) app: Option<String>,
    /// Seconds between two looks at the node
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=EVERY_MAX_S))]
    pub(crate) every: u64,
    /// What comes first
    #[arg(long, value_enum, default_value = "rate", value_name = "FIGURE")]
    pub(crate) sort: SortKey,
    /// Print one snapshot and end; so it does where no terminal is
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one JSON object a line, from then on; with --once, one
    #[arg(long)]
    pub(crate) json: bool,
}

/// A figure that functions are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    /// Calls each second
    Rate,
    /// Failures each second
    Errors,
    /// Half of all requests take no longer
    P50,
    /// 99 of 100 requests take no longer
    P99,
    /// Requests in flight
    Flight,
    /// Calls that wait
    Queue,
    /// Replicas
    Replicas,
    /// CPU time
    Cpu,
    /// The name
    Name,
}

impl SortKey {
    /// All of them, in the order of columns.
    pub(crate) const ALL: [Self; 9] = [
        Self::Rate,
        Self::Errors,
        Self::P50,
        Self::P99,
        Self::Flight,
        Self::Queue,
        Self::Replicas,
        Self::Cpu,
        Self::Name,
    ];

    /// The one so many places further on.
    pub(crate) fn after(self, places: usize) -> Self {
        let at = Self::ALL.iter().position(|key| *key == self).unwrap_or(0);
        Self::ALL.get((at + places) % Self::ALL.len()).copied().unwrap_or(self)
    }

    /// What people call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Rate => "calls/s",
            Self::Errors => "failures/s",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Flight => "in flight",
            Self::Queue => "waiting",
            Self::Replicas => "replicas",
            Self::Cpu => "CPU",
            Self::Name => "name",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// The app; needed where several run
    pub(crate) app: Option<String>,
    /// How to draw it
    #[arg(long, value_enum, default_value = "svg")]
    pub(crate) format: GraphFormat,
    /// Write it to this file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Seconds that rates are taken over; 0 draws totals since the version was deployed
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=EVERY_MAX_S))]
    pub(crate) over: u64,
    /// Print the graph and its figures as one JSON object
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

/// How a graph is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A picture for browsers and documents
    Svg,
    /// For Graphviz
    Dot,
    /// For pages in Markdown
    Mermaid,
}
