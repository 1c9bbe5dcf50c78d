//! The rows, in memory and in their file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::Used;
use crate::disk::Disk;
use crate::store::StoreError;

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("usage");
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// How long hours are kept apart, and days at all.
const HOURS_KEPT_S: u64 = 2 * DAY_S;
const DAYS_KEPT_S: u64 = 62 * DAY_S;
/// Rows at most; the oldest make room.
const ROWS_MAX: usize = 200_000;
/// Bytes of pages that the database keeps in memory.
const CACHE_BYTES: usize = 1 << 20;

/// The file of accounts cannot be used.
#[derive(Debug)]
pub struct UsageError(StoreError);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file of usage accounts: {}", self.0)
    }
}

impl std::error::Error for UsageError {}

/// The beginning of a row's hour or day, how long that is, the app, the function.
type Key = (u64, u64, String, String);

fn written(key: &Key) -> String {
    // In the order of time. Names have no slash.
    format!("{:012}/{}/{}/{}", key.0, key.1, key.2, key.3)
}

fn read(text: &str) -> Option<Key> {
    let mut parts = text.splitn(4, '/');
    let begin = parts.next()?.parse().ok()?;
    let span = parts.next()?.parse().ok().filter(|span| [HOUR_S, DAY_S].contains(span))?;
    Some((begin, span, parts.next()?.to_owned(), parts.next()?.to_owned()))
}

fn read_all(database: &Database) -> Result<BTreeMap<Key, Used>, redb::Error> {
    let writing = database.begin_write()?;
    writing.open_table(ROWS)?;
    writing.commit()?;
    let mut rows = BTreeMap::new();
    for row in database.begin_read()?.open_table(ROWS)?.iter()? {
        let (key, value) = row?;
        // A row that cannot be read is another version's: it is left alone.
        if let (Some(key), Ok(used)) = (read(key.value()), serde_json::from_slice(value.value())) {
            rows.insert(key, used);
        }
    }
    Ok(rows)
}

/// All rows of a node.
#[derive(Debug)]
pub(super) struct Table {
    disk: Disk,
    rows: BTreeMap<Key, Used>,
    /// What the file does not have yet, or has too much.
    changed: BTreeSet<Key>,
}

impl Table {
    pub(super) fn open(file: &Path) -> Result<Table, UsageError> {
        let disk = Disk::new(file, CACHE_BYTES);
        let rows = disk.with(read_all).map_err(UsageError)?;
        Ok(Table { disk, rows, changed: BTreeSet::new() })
    }

    /// Adds what was used up to now.
    pub(super) fn add(&mut self, now_s: u64, used: BTreeMap<(String, String), Used>) {
        let hour = now_s - now_s % HOUR_S;
        for ((app, function), used) in used {
            self.put((hour, HOUR_S, app, function), &used);
        }
    }

    fn put(&mut self, key: Key, used: &Used) {
        self.rows.entry(key.clone()).or_default().add(used);
        self.changed.insert(key);
    }

    fn take(&mut self, key: &Key) -> Option<Used> {
        self.changed.insert(key.clone());
        self.rows.remove(key)
    }

    /// Makes days of old hours, and forgets old days.
    fn tidy(&mut self, now_s: u64) {
        let is_old = |(begin, span, ..): &Key| match *span {
            HOUR_S => begin + HOURS_KEPT_S < now_s,
            _ => begin + DAYS_KEPT_S < now_s,
        };
        let old: Vec<Key> = self.rows.keys().filter(|key| is_old(key)).cloned().collect();
        for key in old {
            let Some(used) = self.take(&key) else { continue };
            let (begin, span, app, function) = key;
            if span == HOUR_S && begin + DAYS_KEPT_S >= now_s {
                self.put((begin - begin % DAY_S, DAY_S, app, function), &used);
            }
        }
        while self.rows.len() > ROWS_MAX {
            let Some(oldest) = self.rows.keys().next().cloned() else { break };
            self.take(&oldest);
        }
    }

    /// Writes what has changed.
    pub(super) fn write(&mut self, now_s: u64) -> Result<(), UsageError> {
        self.tidy(now_s);
        if self.changed.is_empty() {
            return Ok(());
        }
        let (rows, changed) = (&self.rows, &self.changed);
        let write = |database: &Database| {
            let writing = database.begin_write()?;
            {
                let mut table = writing.open_table(ROWS)?;
                for key in changed {
                    match rows.get(key) {
                        Some(used) => {
                            let value = serde_json::to_vec(used).unwrap_or_default();
                            table.insert(written(key).as_str(), value.as_slice())?;
                        }
                        None => {
                            table.remove(written(key).as_str())?;
                        }
                    }
                }
            }
            Ok(writing.commit()?)
        };
        self.disk.with(write).map_err(UsageError)?;
        self.changed.clear();
        Ok(())
    }

    /// Sums by app and function of all hours and days that end after `since_s`; and when the first of them begins.
    pub(super) fn sum(&self, app: Option<&str>, since_s: u64) -> (u64, BTreeMap<(String, String), Used>) {
        let mut first = None;
        let mut sums: BTreeMap<(String, String), Used> = BTreeMap::new();
        for ((begin, span, of, function), used) in &self.rows {
            if begin + span <= since_s || app.is_some_and(|app| app != of) {
                continue;
            }
            first = Some(first.map_or(*begin, |first: u64| first.min(*begin)));
            sums.entry((of.clone(), function.clone())).or_default().add(used);
        }
        (first.unwrap_or(since_s), sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(invocations: u64) -> BTreeMap<(String, String), Used> {
        let used = Used { invocations, ..Used::default() };
        BTreeMap::from([(("shop".to_owned(), "cart".to_owned()), used)])
    }

    fn invocations(table: &Table, since_s: u64) -> u64 {
        table.sum(Some("shop"), since_s).1.values().map(|used| used.invocations).sum()
    }

    #[test]
    fn rows_survive_a_restart_and_are_found_by_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage.redb");
        let now = 1_000 * DAY_S + 5;
        let mut table = Table::open(&file).unwrap();
        table.add(now, one(3));
        table.add(now + 10, one(4));
        table.add(now + HOUR_S, one(5));
        table.write(now + HOUR_S).unwrap();
        // Written only by the next transaction: a crash loses it.
        table.add(now + HOUR_S, one(100));
        drop(table);
        let table = Table::open(&file).unwrap();
        assert_eq!((invocations(&table, 0), invocations(&table, now + HOUR_S)), (12, 5));
        assert!(table.sum(Some("other"), 0).1.is_empty());
        assert_eq!(table.sum(None, now + HOUR_S).0, 1_000 * DAY_S + HOUR_S);
    }

    #[test]
    fn hours_become_days_and_days_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage.redb");
        let start = 1_000 * DAY_S;
        let mut table = Table::open(&file).unwrap();
        for hour in 0..24 {
            table.add(start + hour * HOUR_S, one(1));
        }
        table.write(start + 4 * DAY_S).unwrap();
        assert_eq!((table.rows.len(), invocations(&table, 0)), (1, 24));
        drop(table);
        let mut table = Table::open(&file).unwrap();
        assert_eq!((table.rows.len(), invocations(&table, 0)), (1, 24));
        table.write(start + 70 * DAY_S).unwrap();
        assert!(table.rows.is_empty() && Table::open(directory.path()).is_err());
    }
}
