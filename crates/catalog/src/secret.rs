//! Names of secrets, which are names of environment entries too.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::SECRET_NAME_CHARS_MAX;

/// The name of a secret of an app: letters, digits and `_`, no digit first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Box<str>);

/// It is no name of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretNameFault;

impl fmt::Display for SecretNameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a secret is named by letters, digits and _, no digit first and not BATON_, at most {SECRET_NAME_CHARS_MAX} of them"
        )
    }
}

impl std::error::Error for SecretNameFault {}

impl SecretName {
    /// Takes a name that keeps the rules.
    ///
    /// # Errors
    /// It does not.
    pub fn new(name: &str) -> Result<Self, SecretNameFault> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_name = (1..=SECRET_NAME_CHARS_MAX).contains(&name.len())
            && name.bytes().all(fits)
            && !name.starts_with(|first: char| first.is_ascii_digit())
            // What the node itself puts into environments.
            && !name.starts_with("BATON_");
        if is_name { Ok(Self(name.into())) } else { Err(SecretNameFault) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = SecretNameFault;

    fn from_str(name: &str) -> Result<Self, SecretNameFault> {
        Self::new(name)
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameFault;

    fn try_from(name: String) -> Result<Self, SecretNameFault> {
        Self::new(&name)
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0.into()
    }
}

// Sound for maps: equality, order and hash of the newtype are those of its text.
impl Borrow<str> for SecretName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_named_as_environment_entries_are() {
        for name in ["DB_PASSWORD", "a", "_x9", &"x".repeat(SECRET_NAME_CHARS_MAX)] {
            assert_eq!(SecretName::new(name).unwrap().as_str(), name);
        }
        let long = "x".repeat(SECRET_NAME_CHARS_MAX + 1);
        for name in ["", "9x", "a-b", "a=b", "a b", "A/../B", "é", "BATON_APP", &long] {
            assert_eq!(SecretName::new(name), Err(SecretNameFault), "{name}");
        }
    }
}
