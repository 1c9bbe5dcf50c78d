//! Who may use the Lambda API: `$BATON_HOME/lambda-keys.json`, mode 0600, written by `baton lambda keys`.
//!
//! The file is read again when it has changed. One that others may read is not believed: its secrets may be known to them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Most keys.
const KEYS_MAX: usize = 256;
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 10;
const ID_PREFIX: &str = "BATN";
const ID_LETTERS: usize = 16;
const SECRET_BYTES: usize = 30;

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its name, AWS's `AccessKeyId`.
    pub id: String,
    /// What it was made for, as its maker said.
    pub comment: String,
    /// When, in milliseconds since 1970.
    pub made_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    secret: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    made_ms: u64,
}

/// Why keys cannot be read or changed.
#[derive(Debug)]
pub enum KeysError {
    /// Others than the node's user may read the file.
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// As many keys are there as may.
    Full,
    /// There is no such key.
    Absent {
        /// Its name.
        id: String,
    },
    /// The file system refuses.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path } => write!(f, "others may read {}, so its keys are not used", path.display()),
            Self::Unreadable { path, why } => write!(f, "{} holds no keys: {why}", path.display()),
            Self::Full => write!(f, "there are {KEYS_MAX} keys, as many as may"),
            Self::Absent { id } => write!(f, "there is no key {id}"),
            Self::Io { path, source } => write!(f, "cannot use {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for KeysError {}

impl KeysError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "chmod 600 the file, and make new keys if others may have read it",
            Self::Unreadable { .. } => "delete the file and make new keys: baton lambda keys add",
            Self::Full => "remove some: baton lambda keys remove ID",
            Self::Absent { .. } => "`baton lambda keys list` lists them",
            Self::Io { .. } => "check the rights of BATON_HOME",
        }
    }
}

/// The keys of a node.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    read: Mutex<Option<AsRead>>,
}

/// The keys of the file as it was then.
type AsRead = (Stamp, Arc<BTreeMap<String, Key>>);

/// What changes when the file does.
type Stamp = (u64, i64, i64, u64);

impl Keys {
    /// The keys of a state directory.
    #[must_use]
    pub fn of(home: &Path) -> Self {
        Self { path: home.join("lambda-keys.json"), read: Mutex::default() }
    }

    fn io(&self, source: io::Error) -> KeysError {
        KeysError::Io { path: self.path.clone(), source }
    }

    fn load(&self) -> Result<Arc<BTreeMap<String, Key>>, KeysError> {
        let about = match fs::metadata(&self.path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(self.io(error)),
        };
        if about.permissions().mode() & 0o077 != 0 {
            return Err(KeysError::Open { path: self.path.clone() });
        }
        let stamp = (about.ino(), about.mtime(), about.mtime_nsec(), about.len());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, keys)) = read.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(keys));
        }
        let mut text = String::new();
        let file = File::open(&self.path).map_err(|error| self.io(error))?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| self.io(error))?;
        let keys: BTreeMap<String, Key> = serde_json::from_str(&text)
            .map_err(|error| KeysError::Unreadable { path: self.path.clone(), why: error.to_string() })?;
        let keys = Arc::new(keys);
        *read = Some((stamp, Arc::clone(&keys)));
        Ok(keys)
    }

    /// The secret of a key.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn secret(&self, id: &str) -> Result<Option<String>, KeysError> {
        Ok(self.load()?.get(id).map(|key| key.secret.clone()))
    }

    /// All keys, by name.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeysError> {
        let info = |(id, key): (&String, &Key)| KeyInfo {
            id: id.clone(),
            comment: key.comment.clone(),
            made_ms: key.made_ms,
        };
        Ok(self.load()?.iter().map(info).collect())
    }

    /// Makes a key; gives its name and its secret, which is told this once.
    ///
    /// # Errors
    /// There are too many, or the file cannot be used.
    pub fn add(&self, comment: &str) -> Result<(String, String), KeysError> {
        let mut keys = BTreeMap::clone(&*self.load()?);
        if keys.len() >= KEYS_MAX {
            return Err(KeysError::Full);
        }
        let mut random = [0; ID_LETTERS + SECRET_BYTES];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .map_err(|error| self.io(error))?;
        let (letters, secret) = random.split_at(ID_LETTERS);
        let letter = |byte: &u8| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte % 32)]);
        let id: String = ID_PREFIX.chars().chain(letters.iter().map(letter)).collect();
        let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let made_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let comment = comment.chars().filter(|letter| !letter.is_control()).take(128).collect();
        keys.insert(id.clone(), Key { secret: secret.clone(), comment, made_ms });
        self.write(&keys)?;
        Ok((id, secret))
    }

    /// Takes a key back.
    ///
    /// # Errors
    /// There is no such key, or the file cannot be used.
    pub fn remove(&self, id: &str) -> Result<(), KeysError> {
        let mut keys = BTreeMap::clone(&*self.load()?);
        if keys.remove(id).is_none() {
            return Err(KeysError::Absent { id: id.to_owned() });
        }
        self.write(&keys)
    }

    fn write(&self, keys: &BTreeMap<String, Key>) -> Result<(), KeysError> {
        let text = serde_json::to_vec_pretty(keys).map_err(|error| self.io(error.into()))?;
        let new = self.path.with_extension("new");
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|error| self.io(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_told_once_kept_private_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::of(dir.path());
        assert!(keys.list().unwrap().is_empty() && keys.secret("x").unwrap().is_none());
        let (id, secret) = keys.add("for tests").unwrap();
        let (other, _) = keys.add("").unwrap();
        assert!(id != other && id.len() == 20 && secret.len() == 40);
        let again = Keys::of(dir.path());
        assert_eq!(again.secret(&id).unwrap(), Some(secret));
        assert_eq!(again.list().unwrap().iter().filter(|key| key.comment == "for tests").count(), 1);
        let mode = fs::metadata(dir.path().join("lambda-keys.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Another program takes it back: the one that runs notices.
        again.remove(&id).unwrap();
        assert_eq!(keys.secret(&id).unwrap(), None);
        assert!(matches!(keys.remove(&id), Err(KeysError::Absent { .. })));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_damaged_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::of(dir.path());
        let (id, _) = keys.add("").unwrap();
        let file = dir.path().join("lambda-keys.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keys.secret(&id), Err(KeysError::Open { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "{\"x\": 1}").unwrap();
        assert!(matches!(keys.secret(&id), Err(KeysError::Unreadable { .. })));
    }
}
