//! From what is deployed of an app and what somebody wants of it to what shall be deployed: pure.
//!
//! ```text
//!             deploy                 deploy --canary 10%, or watched
//!   (none) ──────────▶ one version ──────────────────────────────────▶ two versions, shares
//!                        ▲  ▲  ▲                                           │  │  │
//!                        │  │  └────────────── promote ────────────────────┘  │  │  the newer one alone
//!                        │  └──────────────── rollback, undone ───────────────┘  │  the older one alone
//!                        └──────────────── traffic v3=100 ───────────────────────┘
//! ```

use std::collections::BTreeMap;

use baton_catalog::{Canary, Percent, Rollback, RouteTable, Sticky, limits, merged};

use super::DeployFault;
use crate::store::{Beside, Deployment, Kept, Undone};

/// What somebody wants of the versions of an app that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The newer version of two takes over.
    Promote,
    /// Back to a version, or to the one before.
    Rollback {
        /// Which; the one before if absent.
        to: Option<u64>,
    },
    /// One or two versions have these parts of the requests.
    Traffic {
        /// The parts, by version.
        shares: BTreeMap<u64, Percent>,
        /// By what one who asks again is known; as it was if absent.
        sticky: Option<Sticky>,
    },
    /// The newer version of two is undone.
    Undo {
        /// Its number.
        version: u64,
        /// Why.
        why: String,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// The newer version of two takes over, if it is still this one.
    TakeOver {
        /// Its number.
        version: u64,
    },
}

/// How a deployment is to take over, beyond what its manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// It begins with a part of the requests. The whole is what a manifest with a canary does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// When it is undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
}

/// What a change cannot be done for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutError {
    /// There is no newer version beside another.
    NoCanary {
        /// The version that has all requests.
        version: u64,
    },
    /// No older version is kept.
    NoOlder {
        /// The version that runs.
        version: u64,
    },
    /// A version is not kept, or never was there.
    Unknown {
        /// The version.
        version: u64,
        /// Those that are.
        kept: Vec<u64>,
    },
    /// Parts do not add up to the whole.
    Sum {
        /// What they add up to, in hundredths of a percent.
        sum: u32,
    },
    /// More than two versions, or none, are to answer.
    Versions {
        /// How many.
        count: usize,
    },
    /// What a roll-back is to be decided by is out of bounds.
    Terms,
    /// Routes of the two versions clash.
    Routes {
        /// How.
        clash: String,
    },
}

impl std::fmt::Display for RolloutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCanary { version } => {
                write!(f, "version {version} has all requests, no newer one stands beside it")
            }
            Self::NoOlder { version } => write!(f, "no version before {version} is kept"),
            Self::Unknown { version, .. } => write!(f, "version {version} is not kept"),
            Self::Sum { sum } => {
                write!(f, "the shares add up to {}.{:02}%, not to 100%", sum / 100, sum % 100)
            }
            Self::Versions { count } => write!(f, "{count} versions are to answer; one or two can"),
            Self::Terms => {
                f.write_str("a roll-back is decided over 1s to 24h, and after 1 to 1000000 requests")
            }
            Self::Routes { clash } => {
                write!(f, "the two versions cannot answer side by side, since their routes clash: {clash}")
            }
        }
    }
}

impl RolloutError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoCanary { .. } => "`baton deploy --canary 10%` begins one".to_owned(),
            Self::NoOlder { .. } => {
                "`baton versions APP` lists what is kept; deploy what you want".to_owned()
            }
            Self::Unknown { kept, .. } => {
                let kept: Vec<String> = kept.iter().map(|version| format!("v{version}")).collect();
                format!("kept: {}; `baton versions APP` lists them", kept.join(" "))
            }
            Self::Sum { .. } => "write shares such as v3=90 v4=10".to_owned(),
            Self::Versions { .. } => "name one or two versions, such as v3=90 v4=10".to_owned(),
            Self::Terms => "write terms such as errors=5%,after=20,window=60s".to_owned(),
            Self::Routes { .. } => {
                "name parameters alike in both, or deploy the new version for all requests".to_owned()
            }
        }
    }
}

impl From<RolloutError> for DeployFault {
    fn from(error: RolloutError) -> Self {
        Self::Rollout(error)
    }
}

/// What is to be deployed when a new version comes: `next` has its number, `now` is what is deployed.
pub(super) fn deployed(
    now: Option<&Deployment>,
    next: Deployment,
    wish: Wish,
) -> Result<Deployment, RolloutError> {
    let is_bounded = |terms: &Rollback| {
        (limits::ROLLBACK_WINDOW_MIN..=limits::ROLLBACK_WINDOW_MAX).contains(&terms.window)
            && (1..=limits::ROLLBACK_AFTER_MAX).contains(&terms.after)
    };
    if !wish.rollback.as_ref().is_none_or(is_bounded) {
        return Err(RolloutError::Terms);
    }
    let Some(now) = now else { return Ok(next) };
    let declared = next.manifest.deploy.clone();
    let rollback = wish.rollback.or(declared.rollback);
    let canary = wish.canary.or(declared.canary).filter(|canary| canary.share < Percent::ALL);
    if now.same_as(&next) {
        // It leads already: a canary of itself is nothing, and whatever stood beside it goes.
        return Ok(Deployment { undone: now.undone.clone(), ..now.alone() });
    }
    // A version that stands beside already keeps its number.
    let known = now.beside.as_deref().filter(|beside| beside.next.same_as(&next));
    let next = known.map_or(next, |beside| beside.next.clone());
    let beside = match (canary, rollback) {
        (Some(Canary { share, sticky }), rollback) => {
            Beside { next, share, sticky, rollback: rollback.unwrap_or_default(), takes_over: false }
        }
        // The version before stays up for as long as the new one is watched.
        (None, Some(rollback)) if known.is_none() => {
            Beside { next, share: Percent::ALL, sticky: None, rollback, takes_over: true }
        }
        (None, _) => return Ok(next),
    };
    side_by_side(now.alone(), beside)
}

/// A version and a newer one beside it.
fn side_by_side(lead: Deployment, beside: Beside) -> Result<Deployment, RolloutError> {
    let rows = merged(&lead.manifest.served(), &beside.next.manifest.served());
    RouteTable::compile(rows).map_err(|clash| RolloutError::Routes { clash: clash.to_string() })?;
    Ok(Deployment { beside: Some(Box::new(beside)), ..lead })
}

/// What is to be deployed after a change; `kept` are the versions that there are, oldest first.
pub(super) fn changed(now: &Deployment, kept: &[Kept], change: Change) -> Result<Deployment, RolloutError> {
    match change {
        Change::Promote => match now.next() {
            Some(next) => Ok(next.alone()),
            None => Err(RolloutError::NoCanary { version: now.version }),
        },
        Change::TakeOver { version } => match now.next() {
            Some(next) if next.version == version => Ok(next.alone()),
            _ => Err(RolloutError::NoCanary { version: now.version }),
        },
        Change::Undo { version, why, at_ms } => match now.next() {
            Some(next) if next.version == version => {
                Ok(Deployment { undone: Some(Undone { version, why, at_ms }), ..now.alone() })
            }
            _ => Err(RolloutError::NoCanary { version: now.version }),
        },
        Change::Rollback { to: None } if now.beside.is_some() => Ok(now.alone()),
        Change::Rollback { to: None } => {
            let fit = |kept: &&Kept| kept.deployment.version < now.version && kept.undone.is_none();
            let before = kept.iter().rev().find(fit);
            let before = before.ok_or(RolloutError::NoOlder { version: now.version })?;
            Ok(before.deployment.alone())
        }
        Change::Rollback { to: Some(version) } => find(now, kept, version),
        Change::Traffic { shares, sticky } => traffic(now, kept, shares, sticky),
    }
}

/// A version of those that run or are kept.
fn find(now: &Deployment, kept: &[Kept], version: u64) -> Result<Deployment, RolloutError> {
    let running = std::iter::once(now).chain(now.next());
    let kept_versions = || kept.iter().map(|kept| &kept.deployment);
    let found = running.chain(kept_versions()).find(|found| found.version == version);
    let unknown =
        || RolloutError::Unknown { version, kept: kept_versions().map(|kept| kept.version).collect() };
    Ok(found.ok_or_else(unknown)?.alone())
}

fn traffic(
    now: &Deployment,
    kept: &[Kept],
    mut shares: BTreeMap<u64, Percent>,
    sticky: Option<Sticky>,
) -> Result<Deployment, RolloutError> {
    let sum = shares.values().map(|share| u32::from(share.hundredths())).sum();
    // One that has nothing and neither leads nor is about to need not run.
    let is_running =
        |version: u64| version == now.version || now.next().is_some_and(|next| next.version == version);
    for version in shares.keys() {
        find(now, kept, *version)?;
    }
    shares.retain(|version, share| share.hundredths() > 0 || is_running(*version));
    if sum != u32::from(Percent::ALL.hundredths()) {
        return Err(RolloutError::Sum { sum });
    }
    let count = shares.len();
    let mut named = shares.into_iter();
    let (one, two) = match (named.next(), named.next(), named.next()) {
        (Some(one), two, None) => (one, two),
        _ => return Err(RolloutError::Versions { count }),
    };
    let Some(two) = two else { return find(now, kept, one.0) };
    // The one that leads goes on to; else the older one does.
    let (lead, next) = if two.0 == now.version { (two, one) } else { (one, two) };
    let former = now.beside.as_deref();
    let beside = Beside {
        next: find(now, kept, next.0)?,
        share: next.1,
        sticky: sticky.or_else(|| former.and_then(|former| former.sticky.clone())),
        rollback: former.map(|former| former.rollback).or(now.manifest.deploy.rollback).unwrap_or_default(),
        takes_over: false,
    };
    side_by_side(find(now, kept, lead.0)?, beside)
}

#[cfg(test)]
mod tests;
