//! Where in a manifest something stands, independent of the form that the manifest has.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::{self, Misplaced};
use super::{App, Cron, Function, Manifest, Placement, Pool, Subscription};
use crate::names::FunctionName;
use crate::policy::Policies;
use crate::rollout::Rollout;
use crate::routes::Route;

/// A place in a manifest: `functions.cart.calls[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site(pub Vec<Step>);

/// One step towards a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a table, by key.
    Key(String),
    /// Into a list, by place counted from 0.
    Item(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&FunctionName> for Step {
    fn from(name: &FunctionName) -> Self {
        Self::Key(name.to_string())
    }
}

impl From<usize> for Step {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

impl Site {
    /// This place with one more step.
    #[must_use]
    pub fn then(&self, step: impl Into<Step>) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Self(steps)
    }

    /// The span of this place in a document, or of the deepest table around it that is there.
    ///
    /// For a table this is the span of its key: an error points at a name, not at a hundred lines.
    pub(crate) fn span(&self, document: &DeTable<'_>) -> Range<usize> {
        let mut span = 0..0;
        let mut value: Option<&Spanned<DeValue<'_>>> = None;
        for step in &self.0 {
            let table = value.map_or(Some(document), |value| value.get_ref().as_table());
            let next = match step {
                Step::Key(key) => {
                    table.and_then(|table| table.get_key_value(key.as_str())).map(|(key, value)| {
                        span = if value.get_ref().is_table() { key.span() } else { value.span() };
                        value
                    })
                }
                Step::Item(item) => {
                    let items = value.and_then(|value| value.get_ref().as_array());
                    items.and_then(|items| items.get(*item)).inspect(|value| span = value.span())
                }
            };
            match next {
                Some(next) => value = Some(next),
                None => break,
            }
        }
        span
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// A manifest from JSON before its values were checked against each other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unchecked {
    app: App,
    #[serde(default)]
    pool: Pool,
    #[serde(default)]
    placement: Placement,
    #[serde(default)]
    deploy: Rollout,
    functions: BTreeMap<FunctionName, Function>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    policy: Policies,
    #[serde(default)]
    cron: Vec<Cron>,
    #[serde(default)]
    subscriptions: Vec<Subscription>,
}

impl TryFrom<Unchecked> for Manifest {
    type Error = Misplaced;

    fn try_from(unchecked: Unchecked) -> Result<Self, Misplaced> {
        let Unchecked { app, pool, placement, deploy, policy, functions, routes, cron, subscriptions } =
            unchecked;
        let manifest = Self { app, pool, placement, deploy, policy, functions, routes, cron, subscriptions };
        check::manifest(&manifest)?;
        Ok(manifest)
    }
}
