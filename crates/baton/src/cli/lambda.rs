//! `baton lambda`, and the Lambda API of a node.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Args)]
pub(crate) struct LambdaArgs {
    /// The Lambda API's address, on loopback [default: there is none]
    #[arg(long, value_name = "ADDR", value_parser = super::loopback)]
    pub(crate) lambda: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LambdaVerb {
    /// Who may use the Lambda API
    #[command(subcommand)]
    Keys(KeysVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// Make a key; its secret is printed this once
    Add(AddArgs),
    /// List the keys, without their secrets
    List(JsonArgs),
    /// Take a key back
    Remove(RemoveKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) comment: String,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveKeyArgs {
    /// The key, as `baton lambda keys list` names it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}
