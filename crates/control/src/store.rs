//! What is deployed, in a file that survives restarts, `kill -9` and full disks.
//!
//! One row an app and one a kept version, one transaction a change: rows are the old ones or the new ones.

mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use baton_catalog::{AppName, FunctionName, Manifest};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

pub(crate) use self::secrets::SecretRow;
pub(crate) use self::versions::told;
pub use self::versions::{Beside, Kept, Made, Undone};
use crate::artifacts::ArtifactHash;
use crate::disk::Disk;
use crate::limits::STORE_CACHE_BYTES;

const DEPLOYMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("deployments");
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const FORMAT_KEY: &str = "format";
/// Raised when a row can no longer be read by an older node.
const FORMAT: u64 = 2;
/// Before versions were kept: taken over when it is opened.
const FORMAT_WITHOUT_VERSIONS: u64 = 1;

/// A version of an app that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// What the app declares.
    pub manifest: Manifest,
    /// Counts deployments of this app, from 1.
    pub version: u64,
    /// The artifact of each function.
    pub artifacts: BTreeMap<FunctionName, ArtifactHash>,
    /// The bundle of files of each function that has any.
    #[serde(default)]
    pub files: BTreeMap<FunctionName, ArtifactHash>,
    /// When and by what it was deployed.
    #[serde(default)]
    pub made: Made,
    /// The highest number that a version of the app had by then; 0 if that is this one's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub highest: u64,
    /// The newer version that has a part of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Box<Beside>>,
    /// The version that was undone last, since this one was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Deployment {
    /// A version by itself, of which nothing more is known.
    #[must_use]
    pub fn new(
        manifest: Manifest,
        version: u64,
        artifacts: BTreeMap<FunctionName, ArtifactHash>,
        files: BTreeMap<FunctionName, ArtifactHash>,
    ) -> Self {
        let made = Made::default();
        Self { manifest, version, artifacts, files, made, highest: 0, beside: None, undone: None }
    }

    /// The app's name.
    #[must_use]
    pub fn app(&self) -> &AppName {
        &self.manifest.app.name
    }

    /// Whether both would run the same: all but the number, and what stands beside.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.manifest == other.manifest && self.artifacts == other.artifacts && self.files == other.files
    }

    /// Whether both say the same of what answers, and how much of it.
    #[must_use]
    pub fn stands_as(&self, other: &Self) -> bool {
        self.same_as(other) && self.version == other.version && self.beside == other.beside
    }

    /// The highest number that a version of the app had.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest.max(self.version).max(self.next().map_or(0, |next| next.version))
    }

    /// Every artifact that it, and what stands beside it, cannot run without.
    pub fn named(&self) -> impl Iterator<Item = ArtifactHash> {
        let versions = std::iter::once(self).chain(self.next());
        versions.flat_map(|version| version.artifacts.values().chain(version.files.values()).copied())
    }
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub struct Stored {
    /// Rows that can be read.
    pub deployments: BTreeMap<AppName, Deployment>,
    /// Rows that cannot, and why.
    pub unreadable: Vec<(String, serde_json::Error)>,
    /// What kept versions name.
    pub named: BTreeSet<ArtifactHash>,
    /// Whether all kept versions could be read.
    pub is_whole: bool,
}

/// Why the store did not do what it was asked to.
#[derive(Debug)]
pub enum StoreError {
    /// The file is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the database found.
        source: Box<redb::Error>,
    },
    /// The file is so damaged that the database gave up half way.
    Unintelligible {
        /// The file.
        path: PathBuf,
    },
    /// A newer node wrote the file.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// There is no room on the disk.
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file system refuses.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A deployment cannot be written as JSON: a bug.
    Encode(serde_json::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path, source } => write!(f, "{} is damaged: {source}", path.display()),
            Self::Unintelligible { path } => write!(f, "{} is damaged beyond reading", path.display()),
            Self::Newer { path, format } => write!(
                f,
                "{} was written by a newer node (format {format}, this one knows {FORMAT})",
                path.display()
            ),
            Self::Full { path } => {
                write!(f, "no room on the disk for {}; nothing was changed", path.display())
            }
            Self::Io { path, source } => write!(f, "cannot use {}: {source}", path.display()),
            Self::Encode(source) => write!(f, "the deployment cannot be stored: {source}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } | Self::Unintelligible { .. } => {
                "move the file away and deploy the apps again"
            }
            Self::Newer { .. } => "start the newer node, or move the file away and deploy the apps again",
            Self::Full { .. } => "free some space and try again",
            Self::Io { .. } => "check the rights of BATON_HOME",
            Self::Encode(_) => "report this as a bug",
        }
    }
}

/// The embedded store.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
}

impl Store {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// The file is damaged, newer than this program, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::over(Disk::new(path, STORE_CACHE_BYTES))
    }

    fn over(disk: Disk) -> Result<Self, StoreError> {
        match disk.with(ensure_tables)? {
            FORMAT => Ok(Self { disk }),
            format => Err(StoreError::Newer { path: disk.path().to_owned(), format }),
        }
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn all(&self) -> Result<Stored, StoreError> {
        self.with(read_all)
    }

    /// Stores a deployment in place of the app's former one. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written; then the former row is still there.
    pub fn put(&self, deployment: &Deployment) -> Result<(), StoreError> {
        let row = serde_json::to_vec(deployment).map_err(StoreError::Encode)?;
        self.with(|database| {
            let change = database.begin_write()?;
            change.open_table(DEPLOYMENTS)?.insert(deployment.app().as_str(), row.as_slice())?;
            versions::keep(&change, deployment)?;
            Ok(change.commit()?)
        })
    }

    /// Forgets an app; says whether it was there.
    ///
    /// # Errors
    /// The file cannot be written; then the row is still there.
    pub fn remove(&self, app: &str) -> Result<bool, StoreError> {
        self.with(|database| {
            let change = database.begin_write()?;
            let found = change.open_table(DEPLOYMENTS)?.remove(app)?.is_some();
            versions::forget(&change, app)?;
            change.commit()?;
            Ok(found)
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.disk.path()
    }

    fn with<R>(&self, work: impl FnOnce(&Database) -> Result<R, redb::Error>) -> Result<R, StoreError> {
        self.disk.with(work)
    }
}

/// Makes what is missing; returns the format that the file has.
fn ensure_tables(database: &Database) -> Result<u64, redb::Error> {
    let change = database.begin_write()?;
    let found = {
        let mut about = change.open_table(ABOUT)?;
        let found = about.get(FORMAT_KEY)?.map(|format| format.value());
        if found.is_none() {
            about.insert(FORMAT_KEY, FORMAT)?;
        }
        change.open_table(DEPLOYMENTS)?;
        change.open_table(versions::VERSIONS)?;
        found
    };
    match found {
        Some(FORMAT_WITHOUT_VERSIONS) => {
            versions::migrate(&change)?;
            change.open_table(ABOUT)?.insert(FORMAT_KEY, FORMAT)?;
            change.commit()?;
            Ok(FORMAT)
        }
        Some(format) => {
            change.abort()?;
            Ok(format)
        }
        None => {
            change.commit()?;
            Ok(FORMAT)
        }
    }
}

fn read_all(database: &Database) -> Result<Stored, redb::Error> {
    let mut stored = Stored::default();
    let read = database.begin_read()?;
    for row in read.open_table(DEPLOYMENTS)?.iter()? {
        let (app, row) = row?;
        match serde_json::from_slice::<Deployment>(row.value()) {
            Ok(deployment) => {
                stored.deployments.insert(deployment.app().clone(), deployment);
            }
            Err(error) => stored.unreadable.push((app.value().to_owned(), error)),
        }
    }
    (stored.named, stored.is_whole) = versions::named(database)?;
    Ok(stored)
}

pub(crate) fn fault(path: &Path, error: redb::Error) -> StoreError {
    use io::ErrorKind as Kind;
    let path = path.to_owned();
    match error {
        redb::Error::Io(source) => match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => StoreError::Full { path },
            Kind::InvalidData | Kind::UnexpectedEof => {
                StoreError::Damaged { path, source: Box::new(redb::Error::Io(source)) }
            }
            _ => StoreError::Io { path, source },
        },
        redb::Error::DatabaseAlreadyOpen => {
            StoreError::Io { path, source: io::Error::new(Kind::ResourceBusy, "it is still open elsewhere") }
        }
        error => StoreError::Damaged { path, source: Box::new(error) },
    }
}

mod lambda;
mod policies;
mod secrets;

#[cfg(test)]
mod tests;
