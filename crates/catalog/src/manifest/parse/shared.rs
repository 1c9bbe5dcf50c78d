//! What `[app]` gives to each of its functions: environment entries and secrets.

use std::collections::BTreeMap;

use super::super::Function;
use super::super::read::{Located, Reader};
use super::{APP_KEYS, env, secrets};
use crate::secret::SecretName;

/// Given to every function that does not have its own of the same name.
pub(super) struct Shared {
    env: BTreeMap<String, String>,
    secrets: Vec<SecretName>,
}

impl Shared {
    pub(super) fn read(document: &Reader<'_, '_>) -> Result<Self, Located> {
        Ok(match document.table("app", APP_KEYS)? {
            Some(app) => Self { env: env(&app)?, secrets: secrets(&app)? },
            None => Self { env: BTreeMap::new(), secrets: Vec::new() },
        })
    }

    pub(super) fn given_to(&self, mut function: Function) -> Function {
        let own_env = function.env.clone();
        let is_own = |name: &str| {
            own_env.contains_key(name) || function.secrets.iter().any(|own| own.as_str() == name)
        };
        let env: Vec<_> = self.env.iter().filter(|(name, _)| !is_own(name)).collect();
        let secrets: Vec<_> = self.secrets.iter().filter(|name| !is_own(name.as_str())).collect();
        function.env.extend(env.into_iter().map(|(name, value)| (name.clone(), value.clone())));
        function.secrets.extend(secrets.into_iter().cloned());
        function
    }
}
