//! Which secrets a function is granted. A manifest names secrets and never holds their values.

use std::collections::BTreeMap;
use std::fmt;

use super::check::{Misplaced, at_most, fail, not_longer};
use super::read::{Located, Reader, text, wrong_type};
use super::{Function, ManifestFault, Site};
use crate::limits;
use crate::names::SecretName;

/// What can be wrong with a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFault {
    /// The name that the environment entry is to have is none.
    Variable {
        /// What stands there.
        name: String,
    },
    /// The node's own names begin so.
    Reserved {
        /// What stands there.
        name: String,
    },
    /// An entry of `env` has the same name.
    InEnvToo {
        /// The name.
        name: String,
    },
}

impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable { name } => write!(f, "{name:?} cannot name an environment entry"),
            Self::Reserved { name } => write!(f, "{name:?} is the node's to set"),
            Self::InEnvToo { name } => write!(f, "{name:?} stands in env and in secrets"),
        }
    }
}

impl SecretFault {
    /// What to do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Variable { .. } => "use letters, digits and `_`, no digit first",
            Self::Reserved { .. } => "use a name that does not begin with BATON_",
            Self::InEnvToo { .. } => "remove one of them",
        }
    }
}

pub(super) fn secrets(table: &Reader<'_, '_>) -> Result<BTreeMap<String, SecretName>, Located> {
    let Some(value) = table.get("secrets") else { return Ok(BTreeMap::new()) };
    let key = table.key("secrets");
    let expected = "a table of names of secrets";
    let entries = value.get_ref().as_table().ok_or_else(|| wrong_type(&key, expected, value))?;
    let mut granted = BTreeMap::new();
    for (variable, value) in entries {
        let variable = variable.get_ref().to_string();
        let (span, name) = text(&format!("{key}.{variable}"), value)?;
        let bad = |fault| Located::new(span, ManifestFault::Name { name: name.to_owned(), fault });
        granted.insert(variable, SecretName::new(name).map_err(bad)?);
    }
    Ok(granted)
}

pub(super) fn check(function: &Function, site: &Site) -> Result<(), Misplaced> {
    let site = site.then("secrets");
    let entries = function.env.len() + function.secrets.len();
    at_most(&site, "environment entries, secrets included,", entries, limits::ENV_ENTRIES_MAX)?;
    for name in function.secrets.keys() {
        let entry = site.then(name.as_str());
        let fault = |fault| fail(entry.clone(), ManifestFault::Secret(fault));
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if !name.chars().all(is_letter) || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return fault(SecretFault::Variable { name: name.clone() });
        }
        if name.starts_with("BATON_") {
            return fault(SecretFault::Reserved { name: name.clone() });
        }
        if function.env.contains_key(name) {
            return fault(SecretFault::InEnvToo { name: name.clone() });
        }
        let most = limits::SECRET_VARIABLE_BYTES_MAX;
        not_longer(&entry, "the name of a secret's environment entry", name.len(), most)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Manifest;

    fn read(app: &str, function: &str) -> Result<Manifest, String> {
        let text = format!(
            "[app]\nname = \"shop\"\n{app}\n[functions.cart]\nartifact = \"cart\"\n{function}\n[functions.mail]\nartifact = \"mail\"\n"
        );
        Manifest::parse(&text, Path::new("baton.toml")).map_err(|error| error.to_string())
    }

    fn granted(manifest: &Manifest, function: &str) -> Vec<(String, String)> {
        let secrets = &manifest.function(function).unwrap().secrets;
        secrets.iter().map(|(name, secret)| (name.clone(), secret.to_string())).collect()
    }

    #[test]
    fn those_of_the_app_are_everybodys_and_own_ones_win() {
        let app = "secrets = { TOKEN = \"app-token\", LEVEL = \"level\" }\nenv = { DB = \"none\" }";
        let manifest =
            read(app, "secrets = { TOKEN = \"own\", DB = \"shop-db\" }\nenv = { LEVEL = \"info\" }").unwrap();
        let pair = |name: &str, secret: &str| (name.to_owned(), secret.to_owned());
        assert_eq!(granted(&manifest, "cart"), [pair("DB", "shop-db"), pair("TOKEN", "own")]);
        assert_eq!(manifest.function("cart").unwrap().env.keys().collect::<Vec<_>>(), ["LEVEL"]);
        assert_eq!(granted(&manifest, "mail"), [pair("LEVEL", "level"), pair("TOKEN", "app-token")]);
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (function, said) in [
            ("secrets = { \"A=B\" = \"x\" }", "cannot name"),
            ("secrets = { \"1A\" = \"x\" }", "cannot name"),
            ("secrets = { \"\" = \"x\" }", "cannot name"),
            ("secrets = { BATON_APP = \"x\" }", "is the node's to set"),
            ("secrets = { A = \"x\" }\nenv = { A = \"y\" }", "in env and in secrets"),
            ("secrets = { A = \"Bad Name\" }", "bad name"),
            ("secrets = { A = 3 }", "text in quotes"),
            ("secrets = [\"a\"]", "a table of names"),
        ] {
            let error = read("", function).unwrap_err();
            assert!(error.contains(said), "{function}: {error}");
        }
    }
}
