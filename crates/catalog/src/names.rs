//! Names of apps, functions, memory keys and nodes: short, lower-case, fit for a file name, a metric label and a URL alike.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_CHARS_MAX;

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// There is no character in it.
    Empty,
    /// It has more characters than [`NAME_CHARS_MAX`].
    TooLong {
        /// How many characters it has.
        chars: usize,
    },
    /// It does not start with a lower-case letter.
    FirstCharacter {
        /// What it starts with.
        found: char,
    },
    /// It holds a character that no name may hold.
    Character {
        /// The character.
        found: char,
        /// Its place, counted in characters from 1.
        place: usize,
    },
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty"),
            Self::TooLong { chars } => {
                write!(f, "the name has {chars} characters, the most is {NAME_CHARS_MAX}")
            }
            Self::FirstCharacter { found } => {
                write!(f, "the name starts with {found:?}, not with a lower-case letter")
            }
            Self::Character { found, place } => {
                write!(f, "character {place} of the name is {found:?}, which no name may hold")
            }
        }
    }
}

impl std::error::Error for NameFault {}

fn check(name: &str) -> Result<(), NameFault> {
    let first = name.chars().next().ok_or(NameFault::Empty)?;
    let chars = name.chars().count();
    if chars > NAME_CHARS_MAX {
        return Err(NameFault::TooLong { chars });
    }
    if !first.is_ascii_lowercase() {
        return Err(NameFault::FirstCharacter { found: first });
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match name.chars().enumerate().find(|(_, c)| !fits(*c)) {
        Some((index, found)) => Err(NameFault::Character { found, place: index + 1 }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a name that keeps the rules: lower-case letters, digits and `-`, a letter first.
            ///
            /// # Errors
            /// Says which rule the name breaks.
            pub fn new(name: &str) -> Result<Self, NameFault> {
                check(name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameFault;

            fn from_str(name: &str) -> Result<Self, NameFault> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameFault;

            fn try_from(name: String) -> Result<Self, NameFault> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        // Sound for maps: equality, order and hash of the newtype are those of its text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of an app.
    AppName
}

name! {
    /// The name of a function within its app.
    FunctionName
}

name! {
    /// The name of a secret within its app.
    SecretName
}

name! {
    /// The name of a memory key that functions of one app share.
    KeyName
}

name! {
    /// The name of a node within its cluster, or of a cluster.
    NodeName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_keep_the_rules_are_taken() {
        for name in ["a", "cart", "cart-2", "a-", &"x".repeat(NAME_CHARS_MAX)] {
            assert_eq!(FunctionName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_broken_rule_is_named() {
        let cases = [
            ("", "the name is empty"),
            ("2cart", "the name starts with '2', not with a lower-case letter"),
            ("-cart", "the name starts with '-', not with a lower-case letter"),
            ("Cart", "the name starts with 'C', not with a lower-case letter"),
            ("car_t", "character 4 of the name is '_', which no name may hold"),
            ("a/../b", "character 2 of the name is '/', which no name may hold"),
            ("caf\u{e9}", "character 4 of the name is 'é', which no name may hold"),
        ];
        for (name, expect) in cases {
            assert_eq!(AppName::new(name).unwrap_err().to_string(), expect);
        }
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        assert_eq!(AppName::new(&long), Err(NameFault::TooLong { chars: NAME_CHARS_MAX + 1 }));
    }

    #[test]
    fn json_cannot_smuggle_a_bad_name() {
        assert!(serde_json::from_str::<AppName>("\"../etc\"").is_err());
        assert_eq!(serde_json::to_string(&AppName::new("shop").unwrap()).unwrap(), "\"shop\"");
    }
}
