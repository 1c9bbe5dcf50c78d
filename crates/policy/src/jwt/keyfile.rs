//! The keys of tokens: a JSON Web Key Set in a file that someone else may replace at any time.
//!
//! Whoever reads the file hands in its bytes. Keys that were good stay when the file vanishes or becomes unreadable: a half-written
//! file, or an issuer's bad day, must not lock everyone out. A key that a good file no longer has is gone at once.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of such a file.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Most keys of one file.
const KEYS_MAX: usize = 256;
/// The shortest secret that is taken, bytes.
const SECRET_BYTES_MIN: usize = 32;

/// A key and what it is for.
#[derive(Clone)]
struct Verifying {
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// The keys of one file.
pub struct KeyFile {
    path: PathBuf,
    keys: RefCell<Vec<Verifying>>,
    generation: Cell<u64>,
    /// What is wrong with the file now.
    fault: RefCell<Option<String>>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Some of the keys are secrets.
        f.debug_struct("KeyFile")
            .field("path", &self.path)
            .field("keys", &self.count())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct FileOfKeys {
    keys: Vec<Value>,
}

impl KeyFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            keys: RefCell::default(),
            generation: Cell::new(1),
            fault: RefCell::new(Some("it was not read yet".to_owned())),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many keys are good.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.borrow().len()
    }

    /// What is wrong with the file now; the keys are then those of before.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    /// Takes over what the file holds now. Gives how many keys are good.
    ///
    /// # Errors
    /// It holds no usable key; those of before stay.
    pub fn load(&self, bytes: &[u8]) -> Result<usize, String> {
        match parse(bytes) {
            Ok(keys) => {
                let count = keys.len();
                *self.keys.borrow_mut() = keys;
                self.generation.set(self.generation.get() + 1);
                *self.fault.borrow_mut() = None;
                Ok(count)
            }
            Err(why) => {
                *self.fault.borrow_mut() = Some(why.clone());
                Err(why)
            }
        }
    }

    /// The file cannot be read: the keys of before stay.
    pub fn is_unreadable(&self, why: &str) {
        *self.fault.borrow_mut() = Some(why.to_owned());
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The key that a token names. One that names none is checked by the only key that is for its algorithm, if there is one only.
    pub(super) fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let keys = self.keys.borrow();
        let fits = |key: &&Verifying| {
            key.key.family() == algorithm.family() && key.algorithm.is_none_or(|only| only == algorithm)
        };
        let mut fitting = keys.iter().filter(fits).filter(|key| kid.is_none() || key.kid.as_deref() == kid);
        let first = fitting.next()?;
        (fitting.next().is_none()).then(|| first.key.clone())
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Verifying>, String> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("it has {} bytes, the most is {FILE_BYTES_MAX}", bytes.len()));
    }
    let file: FileOfKeys =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    if file.keys.len() > KEYS_MAX {
        return Err(format!("it has {} keys, the most is {KEYS_MAX}", file.keys.len()));
    }
    // Keys of kinds that nobody here knows stand beside the others in good files.
    let keys: Vec<Verifying> = file.keys.into_iter().filter_map(verifying).collect();
    if keys.is_empty() {
        return Err("it has no key for signatures of a kind that is known".to_owned());
    }
    Ok(keys)
}

fn verifying(value: Value) -> Option<Verifying> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if matches!(&jwk.common.public_key_use, Some(purpose) if *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match jwk.common.key_algorithm {
        Some(named) => Some(named.to_string().parse().ok()?),
        None => None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let is_secret = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
    if is_secret && key.try_get_as_bytes().is_ok_and(|secret| secret.len() < SECRET_BYTES_MIN) {
        return None;
    }
    Some(Verifying { kid: jwk.common.key_id, algorithm, key })
}
