//! Why a verb failed: one table from errors to exit codes.
//!
//! | code | what |
//! |---|---|
//! | 0 | done |
//! | 1 | failed |
//! | 2 | bad usage or a faulty manifest |
//! | 3 | the node, or the store of its cluster, cannot be reached |

use std::fmt;
use std::process::ExitCode;

use baton_control::{HomeError, StoreError};

use crate::output::Style;

/// What kind of failure, as scripts tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was tried and did not work.
    Failed,
    /// It was asked for wrongly.
    BadInput,
    /// There is no node to ask, or it has nobody to ask.
    Unreachable,
}

/// A failure with what a person needs to know.
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: String,
    /// A manifest's fault, shown in its source.
    report: Option<miette::Report>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { kind, message: message.to_string(), hint: hint.into(), report: None }
    }

    pub(crate) fn failed(message: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message, hint)
    }

    pub(crate) fn bad_input(message: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::new(Kind::BadInput, message, hint)
    }

    pub(crate) fn manifest(report: miette::Report) -> Self {
        Self { kind: Kind::BadInput, message: report.to_string(), hint: String::new(), report: Some(report) }
    }

    /// Says which function it is about.
    pub(crate) fn of(mut self, function: &impl fmt::Display) -> Self {
        self.message = format!("function {function}: {}", self.message);
        self
    }

    /// Adds what a compiler said.
    pub(crate) fn followed_by(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.message = format!("{}\n{text}", self.message);
        }
        self
    }

    /// What was wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Whether it is of that kind.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::BadInput => 2,
            Kind::Unreachable => 3,
        })
    }

    /// Tells a person, on standard error.
    pub(crate) fn print(&self) {
        if let Some(report) = &self.report {
            eprintln!("{report:?}");
            return;
        }
        let style = Style::stderr();
        eprintln!("{} {}", style.red("error:"), self.message);
        if !self.hint.is_empty() {
            eprintln!("{} {}", style.blue("hint:"), self.hint);
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} ({})", self.kind, self.message, self.hint)
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        Self::failed(&error, error.hint())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed(&error, error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_code() {
        let code = |kind| format!("{:?}", Failure::new(kind, "x", "").exit_code());
        assert_eq!(code(Kind::Failed), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(Kind::BadInput), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(Kind::Unreachable), format!("{:?}", ExitCode::from(3)));
    }
}
