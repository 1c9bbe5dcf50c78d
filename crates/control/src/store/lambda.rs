//! What was made through the Lambda API, a row a function: a table of its own beside the deployments that it led to.

use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::{Store, StoreError};
use crate::lambda::Record;

const FUNCTIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("lambda");

impl Store {
    /// Every function, by name. A row that cannot be read is left out, and said so.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn lambdas(&self) -> Result<Vec<Record>, StoreError> {
        let rows = self.with(|database| {
            let read = database.begin_read()?;
            let table = match read.open_table(FUNCTIONS) {
                Ok(table) => table,
                // An older node made the file, or nothing was ever made.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (name, row) = row?;
                rows.push((name.value().to_owned(), row.value().to_vec()));
            }
            Ok(rows)
        })?;
        let read = rows.into_iter().filter_map(|(name, row)| match serde_json::from_slice(&row) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(name, %error, "a function of the Lambda API cannot be read");
                None
            }
        });
        Ok(read.collect())
    }

    /// Stores a function. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written; then what was there is still there.
    pub(crate) fn put_lambda(&self, record: &Record) -> Result<(), StoreError> {
        let row = serde_json::to_vec(record).map_err(StoreError::Encode)?;
        self.with(|database| {
            let change = database.begin_write()?;
            change.open_table(FUNCTIONS)?.insert(record.name.as_str(), row.as_slice())?;
            Ok(change.commit()?)
        })
    }

    /// Forgets a function.
    ///
    /// # Errors
    /// The file cannot be written; then it is still there.
    pub(crate) fn remove_lambda(&self, name: &str) -> Result<(), StoreError> {
        self.with(|database| {
            let change = database.begin_write()?;
            change.open_table(FUNCTIONS)?.remove(name)?;
            Ok(change.commit()?)
        })
    }
}
