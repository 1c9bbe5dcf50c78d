//! Executables and bundles of files by content: `$BATON_HOME/artifacts/<blake3>`.
//!
//! Files are mode 0555 in a directory of mode 0700: a node that runs as root starts functions as nobody, who must be
//! able to execute the descriptor that the node opens, and cannot get at the file by its name.
//!
//! A file gets its name only when it is complete, checked and on the disk. It is checked again before use, since
//! a disk may change what it holds. Files that no deployment names are swept; those that were uploaded a short
//! while ago are kept for the deployment that is about to name them.

mod vet;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use self::vet::{Context, Objection, Place, VetError, Vetted, Within, vet, vet_module};
use crate::limits::{ARTIFACT_BYTES_MAX, UPLOAD_KEPT, UPLOADS_WAITING_MAX};

/// Marks what is not complete.
pub(crate) const INCOMING: &str = ".incoming-";

/// Makes a directory of the node's own if need be, and removes what an earlier node left unfinished there.
pub(crate) fn open_directory(directory: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(INCOMING) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

const MODE: u32 = 0o555;

/// The BLAKE3 hash of an artifact; 64 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactHash([u8; 32]);

/// The text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashFault;

impl fmt::Display for HashFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an artifact's hash is 64 lower-case hexadecimal digits")
    }
}

impl std::error::Error for HashFault {}

impl ArtifactHash {
    /// The hash of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of a file's content.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }
}

impl fmt::Display for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl FromStr for ArtifactHash {
    type Err = HashFault;

    fn from_str(text: &str) -> Result<Self, HashFault> {
        // One text per hash: it is a file name.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(HashFault);
        }
        let hash = blake3::Hash::from_hex(text).map_err(|_| HashFault)?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl TryFrom<String> for ArtifactHash {
    type Error = HashFault;

    fn try_from(text: String) -> Result<Self, HashFault> {
        text.parse()
    }
}

impl From<ArtifactHash> for String {
    fn from(hash: ArtifactHash) -> Self {
        hash.to_string()
    }
}

/// Why an artifact is not there, or not as it should be.
#[derive(Debug)]
pub enum ArtifactError {
    /// Nobody uploaded it.
    Missing {
        /// Its hash.
        hash: ArtifactHash,
    },
    /// The bytes have another hash.
    Mismatch {
        /// The hash that they should have.
        expected: ArtifactHash,
        /// The hash that they have.
        found: ArtifactHash,
    },
    /// It is larger than an artifact may be.
    TooLarge,
    /// There is no room on the disk.
    Full {
        /// Where.
        path: PathBuf,
    },
    /// The file system refuses.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { hash } => write!(f, "artifact {hash:.12} is not on the node"),
            Self::Mismatch { expected, found } => {
                write!(f, "artifact {expected:.12} is damaged: its content has the hash {found:.12}")
            }
            Self::TooLarge => write!(f, "the artifact is larger than {} MiB", ARTIFACT_BYTES_MAX >> 20),
            Self::Full { path } => write!(f, "no room on the disk for {}", path.display()),
            Self::Io { path, source } => write!(f, "cannot use {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ArtifactError {}

impl ArtifactError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "upload it first: PUT /v1/artifacts/{hash}",
            Self::Mismatch { .. } => "build and deploy again",
            Self::TooLarge => "strip the executable's debug information",
            Self::Full { .. } => "free some space and try again",
            Self::Io { .. } => "check the rights of BATON_HOME",
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let path = path.to_owned();
        match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}

/// The directory of executables and bundles.
#[derive(Debug)]
pub struct Artifacts {
    directory: PathBuf,
    /// Uploaded, and not named by a deployment yet.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    since: HashMap<ArtifactHash, Instant>,
    uploads: u64,
}

impl Artifacts {
    /// Makes the directory if need be and removes what an earlier node left unfinished.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(directory: &Path) -> Result<Self, ArtifactError> {
        let io = |source| ArtifactError::io(directory, source);
        open_directory(directory, |left| fs::remove_file(left)).map_err(io)?;
        Ok(Self { directory: directory.to_owned(), waiting: Mutex::default() })
    }

    fn path(&self, hash: &ArtifactHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an artifact is there. Who asks is about to deploy it, so it is kept for a while.
    #[must_use]
    pub fn contains(&self, hash: &ArtifactHash) -> bool {
        let found = self.path(hash).is_file();
        if found {
            self.keep(*hash);
        }
        found
    }

    fn keep(&self, hash: ArtifactHash) {
        let mut waiting = self.waiting();
        waiting.since.retain(|_, since| since.elapsed() < UPLOAD_KEPT);
        if waiting.since.len() < UPLOADS_WAITING_MAX {
            waiting.since.insert(hash, Instant::now());
        }
    }

    /// Starts an upload.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn receive(self: &Arc<Self>, hash: ArtifactHash) -> Result<Incoming, ArtifactError> {
        let number = {
            let mut waiting = self.waiting();
            waiting.uploads += 1;
            waiting.uploads
        };
        let path = self.directory.join(format!("{INCOMING}{number}"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|source| ArtifactError::io(&path, source))?;
        let artifacts = Arc::clone(self);
        Ok(Incoming { artifacts, file, path, hash, hasher: blake3::Hasher::new(), len: 0 })
    }

    /// The path of an artifact whose content was just checked.
    ///
    /// # Errors
    /// It is missing, or damaged; a damaged one is removed so that it can be uploaded again.
    pub fn verified(&self, hash: &ArtifactHash) -> Result<PathBuf, ArtifactError> {
        let path = self.path(hash);
        match ArtifactHash::of_file(&path) {
            Ok(found) if found == *hash => Ok(path),
            Ok(found) => {
                fs::remove_file(&path).map_err(|source| ArtifactError::io(&path, source))?;
                Err(ArtifactError::Mismatch { expected: *hash, found })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ArtifactError::Missing { hash: *hash })
            }
            Err(source) => Err(ArtifactError::io(&path, source)),
        }
    }

    /// The bytes of an artifact.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn read(&self, hash: &ArtifactHash) -> Result<Vec<u8>, ArtifactError> {
        let path = self.path(hash);
        fs::read(&path).map_err(|source| ArtifactError::io(&path, source))
    }

    /// Removes what neither a deployment names nor an upload of the last minutes brought; says how many.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn sweep(&self, named: &BTreeSet<ArtifactHash>) -> Result<usize, ArtifactError> {
        let io = |source| ArtifactError::io(&self.directory, source);
        let mut waiting = self.waiting();
        waiting.since.retain(|hash, since| !named.contains(hash) && since.elapsed() < UPLOAD_KEPT);
        let mut removed = 0;
        for entry in fs::read_dir(&self.directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            // Other names are not this module's to remove.
            let Some(hash) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if !named.contains(&hash) && !waiting.since.contains_key(&hash) {
                fs::remove_file(entry.path()).map_err(io)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// An upload. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    artifacts: Arc<Artifacts>,
    file: File,
    path: PathBuf,
    hash: ArtifactHash,
    hasher: blake3::Hasher,
    len: u64,
}

impl Incoming {
    /// Appends bytes.
    ///
    /// # Errors
    /// It grows too large, or the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.len += bytes.len() as u64;
        if self.len > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge);
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| ArtifactError::io(&self.path, source))
    }

    /// Checks the hash, brings the bytes to the disk and gives the file its name.
    ///
    /// # Errors
    /// The bytes have another hash, or the file system refuses.
    pub fn finish(self) -> Result<PathBuf, ArtifactError> {
        let found = ArtifactHash(*self.hasher.finalize().as_bytes());
        if found != self.hash {
            return Err(ArtifactError::Mismatch { expected: self.hash, found });
        }
        let target = self.artifacts.path(&self.hash);
        let io = |source| ArtifactError::io(&target, source);
        self.file.set_permissions(Permissions::from_mode(MODE)).map_err(io)?;
        self.file.sync_all().map_err(io)?;
        self.artifacts.keep(self.hash);
        fs::rename(&self.path, &target).map_err(io)?;
        let directory = File::open(&self.artifacts.directory).map_err(io)?;
        directory.sync_all().map_err(io)?;
        Ok(target)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After a finished upload there is nothing under this name; after a failed one, the next start removes
        // what cannot be removed now.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests;
