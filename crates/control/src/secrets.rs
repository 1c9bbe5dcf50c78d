//! Secrets: sealed values in the store, opened only to be put into the environment of the functions that are granted them.
//!
//! ```text
//!   baton secret set ─▶ seal ─▶ state.redb, table `secrets`: APP/NAME ─▶ {revision, nonce ‖ ChaCha20-Poly1305 ‖ tag}
//!                        │ key: secrets.key, mode 0600                      │
//!                        └──────────────── open ◀────────────────────────────┘ ─▶ environment of new replicas
//! ```
//!
//! A sealed value is bound to its app, its name and its revision: a row that was put in the place of another does not open.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use baton_catalog::limits::{SECRET_BYTES_MAX, SECRETS_MAX};
use baton_catalog::{AppName, SecretName};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::{SecretRow, Store, StoreError};

const KEY_FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;

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
        let rows = self.secret_rows()?;
        let place = place(app, name);
        let before = rows.iter().find(|(key, _)| *key == place);
        let key = key(self.path(), rows.is_empty())?;
        let readable = before.and_then(|(_, row)| row.as_ref());
        if let Some(row) = readable
            && open(&key, app, name, row).is_some_and(|known| *known == *value.0)
        {
            return Ok((row.revision, false));
        }
        let of_app = rows.iter().filter(|(key, _)| key.split('/').next() == Some(app.as_str())).count();
        if before.is_none() && of_app >= SECRETS_MAX {
            return Err(SecretError::TooMany { app: app.to_string() });
        }
        let revision = readable.map_or(0, |row| row.revision) + 1;
        let row = SecretRow { revision, set_ms: now_ms, sealed: seal(&key, app, name, revision, &value.0)? };
        self.put_secret(&place, Some(&row))?;
        Ok((revision, true))
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
        let opened = row.and_then(|row| open(&key, app, name, &row));
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
            let (revision, set_ms) = row.map_or((0, 0), |row| (row.revision, row.set_ms));
            let (app, name) = (app.to_owned(), name.to_owned());
            Some(SecretReport { app, name, revision, set_ms, granted_to: Vec::new() })
        };
        Ok(self.secret_rows()?.into_iter().filter_map(report).collect())
    }
}

/// Where a secret lies in its table.
pub(crate) fn place(app: &AppName, name: &SecretName) -> String {
    format!("{app}/{name}")
}

/// What a sealed value is bound to.
fn bound_to(app: &AppName, name: &SecretName, revision: u64) -> Vec<u8> {
    format!("baton secret 1\0{app}/{name}\0{revision}").into_bytes()
}

fn seal(
    key: &LessSafeKey,
    app: &AppName,
    name: &SecretName,
    revision: u64,
    value: &[u8],
) -> Result<String, SecretError> {
    let unusable = || SecretError::Unreadable { app: app.to_string(), name: name.to_string() };
    let mut nonce = [0; NONCE_LEN];
    // Drawn anew for each value: 96 bits, and no key seals more than some thousands of them.
    SystemRandom::new().fill(&mut nonce).map_err(|_| unusable())?;
    let mut text = Zeroizing::new(value.to_vec());
    let aad = Aad::from(bound_to(app, name, revision));
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, text.as_mut_slice())
        .map_err(|_| unusable())?;
    Ok(nonce.iter().chain(text.iter()).chain(tag.as_ref()).map(|byte| format!("{byte:02x}")).collect())
}

fn open(key: &LessSafeKey, app: &AppName, name: &SecretName, row: &SecretRow) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(unhex(&row.sealed)?);
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let aad = Aad::from(bound_to(app, name, row.revision));
    let opened = key.open_in_place(nonce, aad, sealed).ok()?;
    Some(Zeroizing::new(opened.to_vec()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            pair.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(pair, 16).ok())?
        })
        .collect()
}

/// The key beside the store; made if it `may_be_made`, which is only while nothing was sealed with another one.
fn key(store: &Path, may_be_made: bool) -> Result<LessSafeKey, SecretError> {
    let path = store.with_file_name(KEY_FILE);
    let io = |source| SecretError::Key { path: path.clone(), source };
    let damaged = || SecretError::KeyDamaged { path: path.clone() };
    let text = match fs::read(&path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            narrow(&path).map_err(io)?;
            text
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_made => make(&path).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SecretError::KeyMissing { path });
        }
        Err(error) => return Err(io(error)),
    };
    let digits = std::str::from_utf8(&text).map_err(|_| damaged())?.trim();
    let bytes =
        unhex(digits).filter(|bytes| bytes.len() == KEY_BYTES).map(Zeroizing::new).ok_or_else(damaged)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| damaged())?;
    Ok(LessSafeKey::new(key))
}

/// A backup or a copy may have widened it.
fn narrow(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others could read the key of secrets; its rights are narrowed");
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| io::Error::other("no random numbers"))?;
    let text =
        Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    let new = path.with_extension("new");
    // What an interrupted try left behind is nobody's key.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
