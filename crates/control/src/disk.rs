//! A database in a file of the node's own, as the store, the events and the accounts of usage have one each.
//!
//! After an error of the file system the database refuses further work, and over some kinds of damage it panics. It is dropped then
//! and opened afresh by the next call, so that a disk that was full for a while costs only the changes that were refused, and a
//! file that is damaged never the node.

use std::cell::Cell;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::Database;

use crate::store::{StoreError, fault};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a database, of which a panic is caught: whoever takes a panic for the end of the node asks.
#[must_use]
pub fn is_guarded() -> bool {
    GUARDED.get()
}

pub(crate) type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// The file.
pub(crate) struct Disk {
    path: PathBuf,
    opener: Opener,
    /// Absent before the first call, and after an error.
    database: Mutex<Option<Arc<Database>>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Disk {
    /// A file that is opened, or made, by the first call.
    pub(crate) fn new(path: &Path, cache_bytes: usize) -> Self {
        let file = path.to_owned();
        Self::opened_by(path, Box::new(move || open_file(&file, cache_bytes)))
    }

    pub(crate) fn opened_by(path: &Path, opener: Opener) -> Self {
        Self { path: path.to_owned(), opener, database: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does some work with the database. Others may work with it at the same time.
    ///
    /// # Errors
    /// The file cannot be opened, read or written, or is damaged.
    pub(crate) fn with<R>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, redb::Error>,
    ) -> Result<R, StoreError> {
        // Nothing half done is seen again: whoever panicked or failed lets go of the database.
        let attempt = AssertUnwindSafe(|| work(&*self.database()?));
        let guarded = GUARDED.replace(true);
        let caught = catch_unwind(attempt);
        GUARDED.set(guarded);
        let failed = match caught {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(error)) => fault(&self.path, error),
            Err(_) => StoreError::Unintelligible { path: self.path.clone() },
        };
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Err(failed)
    }

    fn database(&self) -> Result<Arc<Database>, redb::Error> {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = slot.as_ref() {
            return Ok(Arc::clone(database));
        }
        let database = Arc::new((self.opener)()?);
        *slot = Some(Arc::clone(&database));
        Ok(database)
    }
}

/// Opens a database, or makes it, for the node's user only: what is in manifests, events and accounts is nobody else's business.
fn open_file(path: &Path, cache_bytes: usize) -> Result<Database, redb::Error> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder.create_file(options.open(path)?).map_err(redb::Error::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use redb::{ReadableDatabase as _, TableDefinition};

    use super::*;

    const ROWS: TableDefinition<'_, u64, u64> = TableDefinition::new("rows");

    fn write(disk: &Disk, row: u64) -> Result<(), StoreError> {
        disk.with(|database| {
            let change = database.begin_write()?;
            change.open_table(ROWS)?.insert(row, row)?;
            Ok(change.commit()?)
        })
    }

    #[test]
    fn a_panic_half_way_costs_its_own_change_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(&directory.path().join("a.redb"), 1 << 20);
        write(&disk, 1).unwrap();
        let error = disk.with::<()>(|database| {
            let change = database.begin_write()?;
            change.open_table(ROWS)?.insert(2, 2)?;
            assert!(is_guarded());
            panic!("as over a damaged page")
        });
        assert!(matches!(error, Err(StoreError::Unintelligible { .. })) && !is_guarded());
        write(&disk, 3).unwrap();
        let rows = disk.with(|database| {
            let table = database.begin_read()?.open_table(ROWS)?;
            Ok([1, 2, 3].map(|row| table.get(row).ok().flatten().is_some()))
        });
        assert_eq!(rows.unwrap(), [true, false, true]);
    }

    #[test]
    fn the_file_is_its_users_alone_and_garbage_is_said_to_be_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.redb");
        write(&Disk::new(&path, 1 << 20), 1).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for garbage in [vec![7; 100], vec![0; 1 << 16], b"redb\x1a\x0a\xa9\x0d\x0a".repeat(1000)] {
            std::fs::write(&path, garbage).unwrap();
            let error = write(&Disk::new(&path, 1 << 20), 1).unwrap_err();
            assert!(
                matches!(error, StoreError::Damaged { .. } | StoreError::Unintelligible { .. }),
                "{error}"
            );
        }
    }
}
