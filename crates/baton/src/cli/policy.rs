//! `baton policy` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Print what requests of an app pass, and what each handler has done
    Show(PolicyArgs),
    /// Put a file's policies in the place of those of the manifest, without a restart
    Set(PolicySetArgs),
    /// Go back to the policies of the manifest
    Reset(PolicyArgs),
    /// Make an API key, and the hash of it that policies name
    Key(JsonArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// The app
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PolicySetArgs {
    /// The app
    pub(crate) app: String,
    /// A file with [policy] and [functions.NAME.policy] as in a manifest
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}
