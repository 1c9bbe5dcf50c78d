//! Rows of secrets, as they were sealed: a table of their own, by `APP/NAME`.

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

const SECRETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("secrets");

/// A sealed secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretRow {
    /// Counts the values that it has had, from 1.
    pub(crate) revision: u64,
    /// When this one was set, milliseconds since 1970.
    pub(crate) set_ms: u64,
    /// Nonce, sealed value and tag, in hexadecimal digits.
    pub(crate) sealed: String,
    /// Whether it is one of the cluster's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) shared: bool,
}

impl Store {
    /// All rows, by `APP/NAME`. One that cannot be read is `None`.
    pub(crate) fn secret_rows(&self) -> Result<Vec<(String, Option<SecretRow>)>, StoreError> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = match read.open_table(SECRETS) {
                Ok(table) => table,
                // Nothing was ever set.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, row) = row?;
                rows.push((key.value().to_owned(), serde_json::from_slice(row.value()).ok()));
            }
            Ok(rows)
        })
    }

    /// The row of one. `Some(None)` for one that cannot be read.
    pub(crate) fn secret_row(&self, key: &str) -> Result<Option<Option<SecretRow>>, StoreError> {
        self.with(|database| {
            let read = database.begin_read()?;
            match read.open_table(SECRETS) {
                Ok(table) => Ok(table.get(key)?.map(|row| serde_json::from_slice(row.value()).ok())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Stores one, or forgets it; says whether it was there. It is on the disk when this returns.
    pub(crate) fn put_secret(&self, key: &str, row: Option<&SecretRow>) -> Result<bool, StoreError> {
        let row = row.map(serde_json::to_vec).transpose().map_err(StoreError::Encode)?;
        self.with(|database| {
            let change = database.begin_write()?;
            let was_there = {
                let mut table = change.open_table(SECRETS)?;
                match &row {
                    Some(row) => table.insert(key, row.as_slice())?.is_some(),
                    None => table.remove(key)?.is_some(),
                }
            };
            change.commit()?;
            Ok(was_there)
        })
    }
}
