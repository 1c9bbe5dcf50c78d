//! `cargo xtask tidy`: the rules of the house that neither rustc nor clippy knows.
//!
//! Every check is a module of its own and a pure function from a [`Tree`] (all files that git would
//! commit, read once) to findings, so that each is tested on fixture strings. Nothing here builds anything;
//! the only programs run are `git ls-files` and `cargo metadata`.

mod config;
mod doc_paths;
mod headers;
mod layers;
mod lengths;
mod machine_paths;
mod names;
mod source;
mod tree;
mod unsafety;

use std::fmt;

pub(crate) use config::ConfigError;
pub(crate) use tree::{Tree, TreeError};

use crate::project::{MetadataError, Project};
use config::Config;

/// One violated rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: Option<usize>,
    message: String,
}

impl Finding {
    fn new(path: &str, line: Option<usize>, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Why `tidy` did not end well.
#[derive(Debug)]
pub(crate) enum TidyError {
    /// The files could not be listed or read.
    Tree(TreeError),
    /// `xtask/tidy.toml` is not what it should be.
    Config(ConfigError),
    /// The crate graph could not be had.
    Metadata(MetadataError),
    /// Rules are violated; the findings have been printed.
    Untidy { findings: usize },
}

impl fmt::Display for TidyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => write!(f, "{error}"),
            Self::Config(error) => write!(f, "{error}"),
            Self::Metadata(error) => write!(f, "{error}"),
            Self::Untidy { findings } => write!(f, "{findings} finding(s), listed above"),
        }
    }
}

impl std::error::Error for TidyError {}

/// Runs every check on the working tree and prints what it finds.
pub(crate) fn run(project: &Project) -> Result<(), TidyError> {
    let tree = Tree::from_git(project.root()).map_err(TidyError::Tree)?;
    let config = Config::from_tree(&tree).map_err(TidyError::Config)?;
    let packages = &project.metadata().map_err(TidyError::Metadata)?.packages;

    let mut findings = lengths::check(&tree, &config);
    findings.extend(headers::check(&tree));
    findings.extend(layers::check(&tree, &layers::graph(packages, project.root())));
    findings.extend(doc_paths::check(&tree));
    findings.extend(unsafety::check(&tree));
    findings.extend(names::check_files(&tree));
    findings.extend(names::check_packages(packages.iter().map(|package| package.name.as_str())));
    findings.extend(machine_paths::check(&tree, &config));
    findings.sort();

    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files are in order", tree.files().len());
        Ok(())
    } else {
        Err(TidyError::Untidy { findings: findings.len() })
    }
}
