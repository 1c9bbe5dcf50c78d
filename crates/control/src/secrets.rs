//! Secrets: sealed values in the store, opened only to be put into the environment of the functions that are granted them.
//!
//! ```text
//!   baton secret set ─▶ seal ─▶ state.redb, table `secrets`: APP/NAME ─▶ {revision, nonce ‖ ChaCha20-Poly1305 ‖ tag}
//!                        │ key: secrets.key, mode 0600                      │
//!                        └──────────────── open ◀────────────────────────────┘ ─▶ environment of new replicas
//! ```
//!
//! A sealed value is bound to its app, its name and its revision: a row that was put in the place of another does not open.

mod seal;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use baton_catalog::limits::{SECRET_BYTES_MAX, SECRETS_MAX};
use baton_catalog::{AppName, SecretName};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub(crate) use self::seal::SealKey;
use crate::store::{SecretRow, Store, StoreError};

const KEY_FILE: &str = "secrets.key";

/// A value that can be a secret. It cannot be printed, and is wiped when it is dropped.
pub struct SecretValue(Zeroizing<Vec<u8>>);

/// Why a value cannot be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretValueFault {
    /// There is nothing in it.
    Empty,
    /// It has more than [`SECRET_BYTES_MAX`] bytes.
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It holds NUL, which no environment entry may.
    Nul,
}

impl fmt::Display for SecretValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the value is empty"),
            Self::TooLong { bytes } => {
                write!(f, "the value has {bytes} bytes, the most is {SECRET_BYTES_MAX}")
            }
            Self::Nul => f.write_str("the value holds a NUL byte, which no environment entry may"),
        }
    }
}

impl std::error::Error for SecretValueFault {}

impl SecretValue {
    /// The value itself.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes a value.
    ///
    /// # Errors
    /// [`SecretValueFault`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretValueFault> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            0 => Err(SecretValueFault::Empty),
            long if long > SECRET_BYTES_MAX => Err(SecretValueFault::TooLong { bytes: long }),
            _ if bytes.contains(&0) => Err(SecretValueFault::Nul),
            _ => Ok(Self(bytes)),
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

/// What is told of a secret: everything but its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReport {
    /// The app.
    pub app: String,
    /// Its name within the app.
    pub name: String,
    /// Counts the values that it has had.
    pub revision: u64,
    /// When this one was set, milliseconds since 1970; 0 for a row that cannot be read.
    pub set_ms: u64,
    /// Whether it is one of the cluster's, which all its nodes have.
    pub shared: bool,
    /// Functions of the version that runs which are granted it.
    pub granted_to: Vec<String>,
}

/// Why a secret is not set, not given out, or not removed.
#[derive(Debug)]
pub enum SecretError {
    /// There is none of that name.
    Unknown {
        /// The app.
        app: String,
        /// The name.
        name: String,
    },
    /// The app has as many as it may.
    TooMany {
        /// The app.
        app: String,
    },
    /// The file of the key cannot be read or written.
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are secrets, and what they were sealed with is gone.
    KeyMissing {
        /// Where it was.
        path: PathBuf,
    },
    /// The file of the key holds something else.
    KeyDamaged {
        /// The file.
        path: PathBuf,
    },
    /// It was sealed with another key or for another place, or is damaged.
    Unreadable {
        /// The app.
        app: String,
        /// The name.
        name: String,
    },
    /// The cluster has it sealed with another key than this node's.
    OtherKey {
        /// The app.
        app: String,
        /// The name.
        name: String,
    },
    /// The store does not do it.
    Store(StoreError),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { app, name } => write!(f, "app {app} has no secret {name} on this node"),
            Self::TooMany { app } => write!(f, "app {app} has {SECRETS_MAX} secrets, as many as it may"),
            Self::Key { path, source } => write!(f, "cannot use {}: {source}", path.display()),
            Self::KeyMissing { path } => {
                write!(f, "{} is gone, and the secrets of this node were sealed with it", path.display())
            }
            Self::KeyDamaged { path } => write!(f, "{} holds no key", path.display()),
            Self::Unreadable { app, name } => {
                write!(
                    f,
                    "secret {name} of app {app} does not open: it is damaged, or was sealed with another key"
                )
            }
            Self::OtherKey { app, name } => write!(
                f,
                "secret {name} of app {app}, as the cluster has it, does not open with this node's --cluster-secrets"
            ),
            Self::Store(source) => source.fmt(f),
        }
    }
}

impl std::error::Error for SecretError {}

impl From<StoreError> for SecretError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl SecretError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { app, name } | Self::Unreadable { app, name } => {
                format!("`baton secret set {app}/{name}` takes its value from standard input or --file")
            }
            Self::TooMany { .. } => "`baton secret list` shows them; remove one".to_owned(),
            Self::Key { .. } => "check the rights of BATON_HOME".to_owned(),
            Self::KeyMissing { .. } | Self::KeyDamaged { .. } => {
                "put the file back from a backup, or remove the secrets and the file, and set them again"
                    .to_owned()
            }
            Self::OtherKey { .. } => "give all nodes the same file, and start them again".to_owned(),
            Self::Store(source) => source.hint().to_owned(),
        }
    }
}

impl Store {
    /// Sets a secret; gives its revision, and whether that is another value than before.
    ///
    /// # Errors
    /// [`SecretError`]; what was there is still there.
    pub fn set_secret(
        &self,
        app: &AppName,
        name: &SecretName,
        value: &SecretValue,
        now_ms: u64,
    ) -> Result<(u64, bool), SecretError> {
        let known = self.known_secret(app, name)?;
        if known.value.is_some_and(|known| *known == *value.0) {
            return Ok((known.revision, false));
        }
        let revision = known.revision + 1;
        let is_shared = false;
        self.seal_secret(app, name, value, Stamp { revision, set_ms: now_ms, is_shared })?;
        Ok((revision, true))
    }

    /// Seals a value and stores it.
    pub(crate) fn seal_secret(
        &self,
        app: &AppName,
        name: &SecretName,
        value: &SecretValue,
        stamp: Stamp,
    ) -> Result<(), SecretError> {
        let rows = self.secret_rows()?;
        let place = place(app, name);
        let of_app = rows.iter().filter(|(key, _)| key.split('/').next() == Some(app.as_str())).count();
        if of_app >= SECRETS_MAX && !rows.iter().any(|(key, _)| *key == place) {
            return Err(SecretError::TooMany { app: app.to_string() });
        }
        let key = key(self.path(), rows.is_empty())?;
        let Stamp { revision, set_ms, is_shared } = stamp;
        let sealed = key.seal(&bound_to(app, name, revision), &value.0);
        let unusable = || SecretError::Unreadable { app: app.to_string(), name: name.to_string() };
        let row = SecretRow { revision, set_ms, sealed: sealed.ok_or_else(unusable)?, shared: is_shared };
        self.put_secret(&place, Some(&row))?;
        Ok(())
    }

    /// What is known of a secret. A row that cannot be read, or a value that does not open, is none.
    pub(crate) fn known_secret(&self, app: &AppName, name: &SecretName) -> Result<Known, SecretError> {
        let Some(row) = self.secret_row(&place(app, name))?.flatten() else { return Ok(Known::default()) };
        let key = key(self.path(), false)?;
        let value = key.open(&bound_to(app, name, row.revision), &row.sealed);
        Ok(Known { revision: row.revision, set_ms: row.set_ms, is_shared: row.shared, value })
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// [`SecretError`].
    pub(crate) fn secret(&self, app: &AppName, name: &SecretName) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (app_text, name_text) = (app.to_string(), name.to_string());
        let Some(row) = self.secret_row(&place(app, name))? else {
            return Err(SecretError::Unknown { app: app_text, name: name_text });
        };
        let key = key(self.path(), false)?;
        let opened = row.and_then(|row| key.open(&bound_to(app, name, row.revision), &row.sealed));
        opened.ok_or(SecretError::Unreadable { app: app_text, name: name_text })
    }

    /// Removes a secret. What runs keeps what it has.
    ///
    /// # Errors
    /// There is none of that name, or the store cannot be written.
    pub fn remove_secret(&self, app: &AppName, name: &SecretName) -> Result<(), SecretError> {
        if self.put_secret(&place(app, name), None)? {
            return Ok(());
        }
        Err(SecretError::Unknown { app: app.to_string(), name: name.to_string() })
    }

    /// All secrets, by app and name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn secrets(&self) -> Result<Vec<SecretReport>, SecretError> {
        let report = |(key, row): (String, Option<SecretRow>)| {
            let (app, name) = key.split_once('/')?;
            let (revision, set_ms, shared) =
                row.map_or((0, 0, false), |row| (row.revision, row.set_ms, row.shared));
            let (app, name) = (app.to_owned(), name.to_owned());
            Some(SecretReport { app, name, revision, set_ms, shared, granted_to: Vec::new() })
        };
        Ok(self.secret_rows()?.into_iter().filter_map(report).collect())
    }
}

/// What is kept beside a sealed value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) revision: u64,
    pub(crate) set_ms: u64,
    pub(crate) is_shared: bool,
}

/// What is known of a secret.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) revision: u64,
    pub(crate) set_ms: u64,
    pub(crate) is_shared: bool,
    pub(crate) value: Option<Zeroizing<Vec<u8>>>,
}

/// Where a secret lies in its table.
pub(crate) fn place(app: &AppName, name: &SecretName) -> String {
    format!("{app}/{name}")
}

/// What a sealed value is bound to.
fn bound_to(app: &AppName, name: &SecretName, revision: u64) -> Vec<u8> {
    format!("baton secret 1\0{app}/{name}\0{revision}").into_bytes()
}

/// The key beside the store; made if it `may_be_made`, which is only while nothing was sealed with another one.
fn key(store: &Path, may_be_made: bool) -> Result<SealKey, SecretError> {
    let path = store.with_file_name(KEY_FILE);
    match SealKey::read(&path) {
        Err(SecretError::KeyMissing { .. }) if may_be_made => SealKey::make(&path),
        key => key,
    }
}

#[cfg(test)]
mod tests;
