//! What `[app]` gives to each of its functions: environment entries.

use std::collections::BTreeMap;

use super::super::Function;
use super::super::read::{Located, Reader};
use super::{APP_KEYS, env};

/// Given to every function that does not have its own of the same name.
pub(super) struct Shared {
    env: BTreeMap<String, String>,
}

impl Shared {
    pub(super) fn read(document: &Reader<'_, '_>) -> Result<Self, Located> {
        let app = document.table("app", APP_KEYS)?;
        Ok(Self { env: app.map(|app| env(&app)).transpose()?.unwrap_or_default() })
    }

    pub(super) fn given_to(&self, mut function: Function) -> Function {
        for (name, value) in &self.env {
            function.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        function
    }
}
