//! Policies that were set in the place of what manifests declare: a table of their own, so that a deployment does not touch them.

use std::collections::BTreeMap;

use baton_catalog::policy::AppPolicies;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::{Store, StoreError};

const POLICIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("policies");

impl Store {
    /// Those of every app that has any. A row that cannot be read is left out, and said so.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn policies(&self) -> Result<BTreeMap<String, AppPolicies>, StoreError> {
        let rows = self.with(|database| {
            let read = database.begin_read()?;
            let table = match read.open_table(POLICIES) {
                Ok(table) => table,
                // An older node made the file, or nothing was ever set.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (app, row) = row?;
                rows.push((app.value().to_owned(), row.value().to_vec()));
            }
            Ok(rows)
        })?;
        let read = rows.into_iter().filter_map(|(app, row)| match serde_json::from_slice(&row) {
            Ok(policies) => Some((app, policies)),
            Err(error) => {
                tracing::warn!(app, %error, "stored policies cannot be read; the manifest's hold");
                None
            }
        });
        Ok(read.collect())
    }

    /// Stores those of an app, or forgets them. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written; then what was there is still there.
    pub fn put_policies(&self, app: &str, policies: Option<&AppPolicies>) -> Result<(), StoreError> {
        let row = policies.map(serde_json::to_vec).transpose().map_err(StoreError::Encode)?;
        self.with(|database| {
            let change = database.begin_write()?;
            {
                let mut table = change.open_table(POLICIES)?;
                match &row {
                    Some(row) => drop(table.insert(app, row.as_slice())?),
                    None => drop(table.remove(app)?),
                }
            }
            Ok(change.commit()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_and_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store");
        let store = Store::open(&file).unwrap();
        assert!(store.policies().unwrap().is_empty());
        let text = r#"{"policy":{"handlers":[{"use":"rate-limit","rate":"5/s"}]}}"#;
        let policies: AppPolicies = serde_json::from_str(text).unwrap();
        store.put_policies("shop", Some(&policies)).unwrap();
        drop(store);
        let store = Store::open(&file).unwrap();
        assert_eq!(store.policies().unwrap(), BTreeMap::from([("shop".to_owned(), policies)]));
        store.put_policies("shop", None).unwrap();
        assert!(store.policies().unwrap().is_empty());
    }
}
