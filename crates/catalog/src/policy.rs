//! What an app declares of policies: handlers that each request passes on its way to a function, and each answer on its
//! way back.
//!
//! Handlers stand in one list for the app and one for each function. A request passes the app's, then the function's,
//! each in the order of the list; its answer passes them in reverse. What each handler does is `baton-policy`'s to
//! say; here is only what may be written, and its bounds.

mod check;
mod handlers;
mod read;
mod terms;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::check::functions as check_functions;
pub use self::handlers::{
    Algorithm, ApiKey, ApiKeys, Ask, Authorize, Breaker, Concurrency, Edits, Forwarded, Handler, Headers,
    Identity, Jwt, Kind, Log, Metrics, Only, RateLimit, Retry, RouteRule, RouteTo, Schema, SpanOf, TimeOut,
};
pub(crate) use self::read::policy as read_policy;
pub use self::read::{PolicyFile, parse_policies};
pub use self::terms::{Rate, Source, Template, TermFault, network_of};
use crate::names::FunctionName;

/// The policies of an app, or of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Whether requests of the function pass the app's handlers before its own. Of an app it means nothing.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub inherit: bool,
    /// In the order in which a request passes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<Handler>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { inherit: true, handlers: Vec::new() }
    }
}

impl Policies {
    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inherit && self.handlers.is_empty()
    }

    /// Every schema.
    pub fn schemas_mut(&mut self) -> impl Iterator<Item = &mut Schema> {
        self.handlers.iter_mut().filter_map(|handler| match handler {
            Handler::Schema(schema) => Some(schema),
            _ => None,
        })
    }
}

/// All policies of an app by themselves, as they can be changed without a deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppPolicies {
    /// Those that the requests of every function pass.
    pub policy: Policies,
    /// Those of single functions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<FunctionName, Policies>,
}

impl AppPolicies {
    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policy.is_empty() && self.functions.values().all(Policies::is_empty)
    }

    /// What requests of a function pass: the app's handlers, if it has them, then its own.
    pub fn of<'a>(&'a self, function: &str) -> (&'a [Handler], &'a [Handler]) {
        let own = self.functions.get(function);
        let inherits = own.is_none_or(|own| own.inherit);
        let app = if inherits { self.policy.handlers.as_slice() } else { &[] };
        (app, own.map_or(&[], |own| own.handlers.as_slice()))
    }

    /// Every handler.
    pub fn handlers(&self) -> impl Iterator<Item = &Handler> {
        self.policy.handlers.iter().chain(self.functions.values().flat_map(|own| &own.handlers))
    }

    /// Every schema, so that whoever can read files puts its text in.
    pub fn schemas_mut(&mut self) -> impl Iterator<Item = &mut Schema> {
        self.policy.schemas_mut().chain(self.functions.values_mut().flat_map(Policies::schemas_mut))
    }
}

#[cfg(test)]
mod tests;
