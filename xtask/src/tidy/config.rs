//! `xtask/tidy.toml`: the exceptions, each with a reason.
//!
//! The list is a ratchet. An exception that nothing needs any more is a finding, and so is one that leaves more room than
//! [`SLACK_LINES`] above what it excuses, so it can only shrink.

use std::fmt;

use serde::Deserialize;

use super::tree::Tree;

/// Where the exceptions are.
pub(super) const PATH: &str = "xtask/tidy.toml";

/// How far an excused length may lie above the true one before the exception has to be lowered.
pub(super) const SLACK_LINES: usize = 20;

/// The exceptions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    /// Files that are longer than a file should be.
    #[serde(default)]
    pub(super) file: Vec<LongFile>,
    /// Functions that are longer than a function should be.
    #[serde(default)]
    pub(super) function: Vec<LongFunction>,
    /// Files that name absolute paths of a machine on purpose.
    #[serde(default)]
    pub(super) machine_path: Vec<MachinePath>,
}

/// A file that may have up to `lines` lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LongFile {
    pub(super) path: String,
    pub(super) lines: usize,
    reason: String,
}

/// A function whose body may have up to `lines` lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LongFunction {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) lines: usize,
    reason: String,
}

/// A file that may name absolute paths.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MachinePath {
    pub(super) path: String,
    reason: String,
}

/// Why the exceptions could not be read.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// It is not TOML, or has a key that nobody knows.
    Syntax(toml::de::Error),
    /// An exception does not say why.
    NoReason { path: String },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "{PATH}: {error}"),
            Self::NoReason { path } => write!(f, "{PATH}: the exception for {path} gives no reason: add one"),
        }
    }
}

impl Config {
    /// The exceptions of a tree; none if it has no such file.
    pub(super) fn from_tree(tree: &Tree) -> Result<Self, ConfigError> {
        tree.file(PATH).map_or_else(|| Ok(Self::default()), |file| Self::parse(&file.text))
    }

    /// Reads the file's text.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(ConfigError::Syntax)?;
        let reasons = (config.file.iter().map(|e| (&e.path, &e.reason)))
            .chain(config.function.iter().map(|e| (&e.path, &e.reason)))
            .chain(config.machine_path.iter().map(|e| (&e.path, &e.reason)));
        for (path, reason) in reasons {
            if reason.trim().is_empty() {
                return Err(ConfigError::NoReason { path: path.clone() });
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_without_a_reason_is_refused() {
        let error = Config::parse("[[file]]\npath = \"a.rs\"\nlines = 600\nreason = \" \"\n").unwrap_err();
        assert!(matches!(error, ConfigError::NoReason { path } if path == "a.rs"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(matches!(Config::parse("[[files]]\n"), Err(ConfigError::Syntax(_))));
    }
}
