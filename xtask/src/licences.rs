//! Licences and sources of all dependencies, checked by `deny.toml` where cargo-deny is not installed.
//!
//! This reads the same two lists (`licenses.allow`, `sources.allow-registry`) and understands licence expressions as
//! crates write them: `AND`, `OR`, `WITH`, parentheses, and the old `/` for `OR`. Clarifications, bans and duplicate
//! versions stay cargo-deny's.

use std::{fmt, fs, io};

use serde::Deserialize;

use crate::project::{MetadataError, Project};

/// The file with the lists.
const PATH: &str = "deny.toml";

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// All packages that the product is built from.
#[derive(Debug, Deserialize)]
struct Lock {
    packages: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Why the dependencies may not stay.
#[derive(Debug)]
pub(crate) enum LicenceError {
    /// `deny.toml` could not be read.
    Read(io::Error),
    /// `deny.toml` is not what it should be.
    Syntax(toml::de::Error),
    /// The dependencies could not be listed.
    Metadata(MetadataError),
    /// Some are not allowed; they have been printed.
    Refused { packages: usize },
}

impl fmt::Display for LicenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(source) => write!(f, "cannot read {PATH}: {source}"),
            Self::Syntax(source) => write!(f, "{PATH}: {source}"),
            Self::Metadata(error) => write!(f, "{error}"),
            Self::Refused { packages } => write!(f, "{packages} package(s) refused, listed above"),
        }
    }
}

impl std::error::Error for LicenceError {}

/// Checks every package of the workspace's graph and prints the refused ones.
pub(crate) fn check(project: &Project) -> Result<(), LicenceError> {
    let text = fs::read_to_string(project.root().join(PATH)).map_err(LicenceError::Read)?;
    let deny: Deny = toml::from_str(&text).map_err(LicenceError::Syntax)?;
    let args = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let lock: Lock = project.ask_metadata(&args).map_err(LicenceError::Metadata)?;
    let refused: Vec<_> = lock.packages.iter().filter_map(|package| refusal(package, &deny)).collect();
    for refusal in &refused {
        println!("{refusal}");
    }
    if refused.is_empty() {
        println!("licences: {} packages are allowed", lock.packages.len());
        Ok(())
    } else {
        Err(LicenceError::Refused { packages: refused.len() })
    }
}

/// Why a package is refused, if it is.
fn refusal(package: &Dependency, deny: &Deny) -> Option<String> {
    let Dependency { name, version, license, source } = package;
    let from_registry = |source: &String| {
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        deny.sources.allow_registry.iter().any(|allowed| allowed == registry)
    };
    if let Some(source) = source.as_ref().filter(|source| !from_registry(source)) {
        return Some(format!("{name} {version}: comes from {source}, which is not allowed"));
    }
    match license {
        Some(expression) if is_allowed(expression, &deny.licenses.allow) => None,
        Some(expression) => Some(format!("{name} {version}: the licence `{expression}` is not allowed")),
        None => Some(format!("{name} {version}: has no licence expression")),
    }
}

/// Whether an expression can be met by allowed licences alone. What cannot be read is not allowed.
fn is_allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().collect::<Vec<_>>().into_iter().peekable();
    any(&mut words, allow) == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::vec::IntoIter<&'a str>>;

/// `a OR b OR …`
fn any(words: &mut Words<'_>, allow: &[String]) -> Option<bool> {
    let mut met = all(words, allow)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allow)?;
    }
    Some(met)
}

/// `a AND b AND …`, which binds tighter.
fn all(words: &mut Words<'_>, allow: &[String]) -> Option<bool> {
    let mut met = one(words, allow)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allow)?;
    }
    Some(met)
}

/// A name, a name `WITH` an exception, or parentheses.
fn one(words: &mut Words<'_>, allow: &[String]) -> Option<bool> {
    let name = words.next()?;
    if name == "(" {
        let met = any(words, allow)?;
        return words.next_if_eq(&")").map(|_| met);
    }
    let full = match words.next_if_eq(&"WITH") {
        Some(_) => format!("{name} WITH {}", words.next()?),
        None => name.to_owned(),
    };
    Some(allow.contains(&full))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "https://github.com/rust-lang/crates.io-index";

    fn deny() -> Deny {
        Deny {
            licenses: Licenses { allow: ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned).to_vec() },
            sources: Sources { allow_registry: vec![REGISTRY.to_owned()] },
        }
    }

    fn check(expression: &str, expect: bool) {
        assert_eq!(is_allowed(expression, &deny().licenses.allow), expect, "{expression}");
    }

    #[test]
    fn expressions_are_understood() {
        check("MIT", true);
        check("GPL-3.0", false);
        check("GPL-3.0 OR MIT", true);
        check("Unlicense/MIT", true);
        check("MIT AND GPL-3.0", false);
        check("GPL-3.0 AND MIT OR MIT", true);
        check("(MIT OR GPL-3.0) AND Unicode-3.0", true);
        check("Apache-2.0 WITH LLVM-exception", false);
        check("Apache-2.0 WITH LLVM-exception OR Apache-2.0", true);
    }

    #[test]
    fn what_cannot_be_read_is_not_allowed() {
        for expression in ["", "MIT MIT", "(MIT", "MIT)", "MIT OR", "AND MIT", "MIT WITH"] {
            check(expression, false);
        }
    }

    #[test]
    fn sources_and_missing_licences_are_refused() {
        let package = |license: Option<&str>, source: Option<&str>| Dependency {
            name: "a".into(),
            version: "1.0.0".into(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        let registry = format!("registry+{REGISTRY}");
        assert_eq!(refusal(&package(Some("MIT"), Some(&registry)), &deny()), None);
        assert_eq!(refusal(&package(Some("MIT"), None), &deny()), None);
        assert!(refusal(&package(Some("MIT"), Some("git+https://example.org/a")), &deny()).is_some());
        assert!(refusal(&package(None, Some(&registry)), &deny()).is_some());
    }
}
