//! The versions of an app that are kept to go back to.

use std::collections::{BTreeMap, BTreeSet};

use baton_catalog::{Percent, Rollback, Sticky};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Database, Deployment, Store, StoreError};
use crate::artifacts::ArtifactHash;
use crate::limits::VERSIONS_KEPT_HERE;

/// Rows by app and version.
pub(super) const VERSIONS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("versions");

/// When and by what a version was deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Milliseconds since 1970; 0 where it is not known.
    pub at_ms: u64,
    /// Who says so of itself; empty where it is not known.
    pub by: String,
}

/// A newer version that has a part of the requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// The version.
    pub next: Deployment,
    /// Its part.
    pub share: Percent,
    /// By what one who asks again is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// When it is undone.
    pub rollback: Rollback,
    /// Whether it takes over once it was watched for its window; a canary waits to be promoted.
    #[serde(default)]
    pub takes_over: bool,
}

/// A version that was undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Its number.
    pub version: u64,
    /// Why.
    pub why: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A version that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What it is; alone.
    pub deployment: Deployment,
    /// Why it was undone, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
}

impl Deployment {
    /// This version by itself.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self { beside: None, undone: None, highest: 0, ..self.clone() }
    }

    /// The newer version beside it.
    #[must_use]
    pub fn next(&self) -> Option<&Self> {
        self.beside.as_deref().map(|beside| &beside.next)
    }
}

/// The versions that rows of one app tell of, oldest first: each row has one or two, and what was undone by then.
#[must_use]
pub(crate) fn told(rows: impl IntoIterator<Item = Deployment>) -> Vec<Kept> {
    let mut kept: BTreeMap<u64, Kept> = BTreeMap::new();
    for row in rows {
        for version in std::iter::once(&row).chain(row.next()) {
            let alone = version.alone();
            let known = kept.entry(version.version);
            known
                .and_modify(|known| known.deployment = alone.clone())
                .or_insert(Kept { deployment: alone, undone: None });
        }
        if let Some(undone) = &row.undone
            && let Some(known) = kept.get_mut(&undone.version)
        {
            known.undone = Some(undone.why.clone());
        }
    }
    kept.into_values().collect()
}

impl Store {
    /// The versions of an app that are kept, oldest first. Rows that cannot be read are left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn versions(&self, app: &str) -> Result<Vec<Kept>, StoreError> {
        self.with(|database| {
            let mut kept = Vec::new();
            for row in database.begin_read()?.open_table(VERSIONS)?.range((app, 0)..=(app, u64::MAX))? {
                let (_, row) = row?;
                kept.extend(serde_json::from_slice::<Kept>(row.value()).ok());
            }
            Ok(kept)
        })
    }
}

/// Keeps what a row tells of, and drops the oldest of what there is too much of.
pub(super) fn keep(change: &WriteTransaction, row: &Deployment) -> Result<(), redb::Error> {
    let app = row.app().as_str();
    let mut table = change.open_table(VERSIONS)?;
    let mut to_write = told([row.clone()]);
    if let Some(undone) = &row.undone {
        let before = table.get((app, undone.version))?;
        let before = before.and_then(|row| serde_json::from_slice::<Kept>(row.value()).ok());
        to_write.extend(before.map(|before| Kept { undone: Some(undone.why.clone()), ..before }));
    }
    for kept in to_write {
        // A deployment that was read or checked can be written.
        let Ok(bytes) = serde_json::to_vec(&kept) else { continue };
        table.insert((app, kept.deployment.version), bytes.as_slice())?;
    }
    let mut numbers = Vec::new();
    for row in table.range((app, 0)..=(app, u64::MAX))? {
        numbers.push(row?.0.value().1);
    }
    let in_use: BTreeSet<u64> =
        std::iter::once(row.version).chain(row.next().map(|next| next.version)).collect();
    let surplus = numbers.len().saturating_sub(VERSIONS_KEPT_HERE);
    for number in numbers.into_iter().filter(|number| !in_use.contains(number)).take(surplus) {
        table.remove((app, number))?;
    }
    Ok(())
}

/// Forgets all versions of an app.
pub(super) fn forget(change: &WriteTransaction, app: &str) -> Result<(), redb::Error> {
    change.open_table(VERSIONS)?.retain_in((app, 0)..=(app, u64::MAX), |_, _| false)?;
    Ok(())
}

/// What kept versions name, and whether all of them could be read.
pub(super) fn named(database: &Database) -> Result<(BTreeSet<ArtifactHash>, bool), redb::Error> {
    let (mut named, mut is_whole) = (BTreeSet::new(), true);
    for row in database.begin_read()?.open_table(VERSIONS)?.iter()? {
        let (_, row) = row?;
        match serde_json::from_slice::<Kept>(row.value()) {
            Ok(kept) => named.extend(kept.deployment.named()),
            Err(_) => is_whole = false,
        }
    }
    Ok((named, is_whole))
}

/// Takes the versions over that a file of format 1 has.
pub(super) fn migrate(change: &WriteTransaction) -> Result<(), redb::Error> {
    let mut rows: Vec<Deployment> = Vec::new();
    for row in change.open_table(super::DEPLOYMENTS)?.iter()? {
        let (_, row) = row?;
        // One that cannot be read is told of as before, when it is to be started.
        rows.extend(serde_json::from_slice(row.value()).ok());
    }
    rows.iter().try_for_each(|row| keep(change, row))
}
