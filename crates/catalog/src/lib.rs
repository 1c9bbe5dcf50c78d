//! The manifest, ids and limits.
//!
//! ```text
//!   baton.toml ──Manifest::parse──▶ Manifest ──serde──▶ store, admin API ──serde──▶ Manifest
//!                                      │ routes
//!                                      └──RouteTable::compile──▶ RouteTable::find(method, path)
//! ```
//!
//! A [`Manifest`] is valid by construction on both roads: reading `baton.toml` and reading JSON run the same
//! checks, so nothing further down looks for an edge to nowhere or a size of zero again. This crate does no
//! input or output: whoever reads the file passes its text.
#![forbid(unsafe_code)]

pub mod limits;
mod manifest;
mod names;
mod nearest;
mod outgoing;
pub mod policy;
mod rollout;
mod routes;
mod units;
mod words;

pub use manifest::{
    App, Build, Cron, EventPattern, Events, Function, Http, Lambda, Listen, Location, Manifest,
    ManifestError, ManifestFault, Placement, Pool, Python, Runtime, RuntimeFault, Scale, SecretFault, Site,
    Step, Subscription, SubscriptionFault, TriggerFault,
};
pub use names::{AppName, FunctionName, KeyName, NameFault, NodeName, SecretName};
pub use outgoing::{connection, connects, covers};
pub use rollout::{Canary, Percent, Rollback, Rollout, RolloutFault, Sticky};
pub use routes::{
    Match, Method, MethodFault, Params, PatternFault, Route, RouteClash, RoutePattern, RouteTable, Segment,
    Side, merged,
};
pub use units::{ByteSize, Cores, CoresFault, SizeFault, TimeFault, TimeSpan};
pub use words::{Fallback, Isolation, LambdaRuntime, Policy, PoolRights, RuntimeWord, Trust, Wake};
