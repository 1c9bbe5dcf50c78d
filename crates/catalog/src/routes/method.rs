//! HTTP methods as a route names them: upper-case tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::METHOD_CHARS_MAX;

/// An HTTP method in upper case, standard or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(Box<str>);

/// What is wrong with a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodFault {
    /// There is no character in it.
    Empty,
    /// It has more characters than [`METHOD_CHARS_MAX`].
    TooLong {
        /// How many characters it has.
        chars: usize,
    },
    /// It holds a lower-case letter.
    LowerCase,
    /// It holds a character that no method here may hold.
    Character {
        /// The character.
        found: char,
    },
}

impl fmt::Display for MethodFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the method is empty"),
            Self::TooLong { chars } => {
                write!(f, "the method has {chars} characters, the most is {METHOD_CHARS_MAX}")
            }
            Self::LowerCase => f.write_str("a method is written in upper case"),
            Self::Character { found } => write!(f, "no method holds {found:?}"),
        }
    }
}

impl std::error::Error for MethodFault {}

impl Method {
    /// The method as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `GET`, which a route without methods answers.
    #[must_use]
    pub fn get() -> Self {
        Self("GET".into())
    }

    /// `POST`, which calls by the clock have if they name no other.
    #[must_use]
    pub fn post() -> Self {
        Self("POST".into())
    }
}

impl FromStr for Method {
    type Err = MethodFault;

    fn from_str(text: &str) -> Result<Self, MethodFault> {
        let chars = text.chars().count();
        if chars == 0 {
            return Err(MethodFault::Empty);
        }
        if chars > METHOD_CHARS_MAX {
            return Err(MethodFault::TooLong { chars });
        }
        let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-' || c == '_';
        match text.chars().find(|c| !fits(*c)) {
            Some(found) if found.is_ascii_lowercase() => Err(MethodFault::LowerCase),
            Some(found) => Err(MethodFault::Character { found }),
            None => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for Method {
    type Error = MethodFault;

    fn try_from(text: String) -> Result<Self, MethodFault> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.0.into()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_upper_case_tokens_are_methods() {
        assert_eq!("GET".parse(), Ok(Method::get()));
        assert!("M-SEARCH".parse::<Method>().is_ok());
        let cases = [
            ("", MethodFault::Empty),
            ("get", MethodFault::LowerCase),
            ("GET ", MethodFault::Character { found: ' ' }),
            ("G\r\nX", MethodFault::Character { found: '\r' }),
        ];
        for (text, fault) in cases {
            assert_eq!(text.parse::<Method>(), Err(fault), "{text:?}");
        }
        let long = "X".repeat(METHOD_CHARS_MAX + 1);
        assert_eq!(long.parse::<Method>(), Err(MethodFault::TooLong { chars: METHOD_CHARS_MAX + 1 }));
    }
}
