//! `baton secret` on the command line. There is no argument for a value: arguments are for everybody on the machine to read.

use std::path::PathBuf;

use baton_catalog::{AppName, SecretName};
use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Set a secret to what comes on standard input, or to what a file holds
    Set(SecretSetArgs),
    /// List secrets, without their values
    List(SecretListArgs),
    /// Remove a secret that nothing which runs is granted
    Remove(SecretRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SecretSetArgs {
    /// The secret
    #[arg(value_name = "APP/NAME")]
    pub(crate) secret: SecretPath,
    /// Read the value from a file, as it is; without, from standard input, less a line end behind it
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SecretListArgs {
    /// Only this app's
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SecretRemoveArgs {
    /// The secret
    #[arg(value_name = "APP/NAME")]
    pub(crate) secret: SecretPath,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

/// A secret of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretPath {
    pub(crate) app: AppName,
    pub(crate) name: SecretName,
}

impl std::fmt::Display for SecretPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.app, self.name)
    }
}

impl std::str::FromStr for SecretPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (app, name) = text.split_once('/').ok_or("a secret is named APP/NAME")?;
        let app = AppName::new(app).map_err(|fault| fault.to_string())?;
        Ok(Self { app, name: SecretName::new(name).map_err(|fault| fault.to_string())? })
    }
}
