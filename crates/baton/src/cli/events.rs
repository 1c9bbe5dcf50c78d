//! `baton events`.

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<EventsVerb>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsVerb {
    /// Have one that came to nothing tried anew
    Retry(EventArgs),
    /// Remove one that came to nothing
    Drop(EventArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    /// The event, as `baton events` names it
    pub(crate) event: String,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}
