//! What `[app]` gives to each of its functions: environment entries and secrets.

use std::collections::BTreeMap;

use super::super::Function;
use super::super::read::{Located, Reader};
use super::{APP_KEYS, env, secrets};
use crate::names::SecretName;

/// Given to every function that does not have its own of the same name.
pub(super) struct Shared {
    env: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretName>,
}

impl Shared {
    pub(super) fn read(document: &Reader<'_, '_>) -> Result<Self, Located> {
        let app = document.table("app", APP_KEYS)?;
        let Some(app) = app else { return Ok(Self { env: BTreeMap::new(), secrets: BTreeMap::new() }) };
        Ok(Self { env: env(&app)?, secrets: secrets(&app)? })
    }

    pub(super) fn given_to(&self, mut function: Function) -> Function {
        // What a function says itself wins, whichever of the two tables it says it in.
        let own_secrets = function.secrets.clone();
        for (name, secret) in self.secrets.iter().filter(|(name, _)| !function.env.contains_key(*name)) {
            function.secrets.entry(name.clone()).or_insert_with(|| secret.clone());
        }
        for (name, value) in self.env.iter().filter(|(name, _)| !own_secrets.contains_key(*name)) {
            function.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        function
    }
}
